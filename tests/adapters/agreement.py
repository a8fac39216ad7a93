"""How far our model is from what the authors' code computes. Used by the tests, and as a command:

python tests/adapters/agreement.py     # the table of largest differences, a row a fixture
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import T5Config

from hyperformer.adapters.model import HyperformerT5, new_model
from hyperformer.adapters.reference import (
    CROSS_BIAS,
    load_reference_state_dict,
    reference_entries,
    reference_state_dict,
)
from hyperformer.adapters.t5.config import hyperformer_config
from hyperformer.settings.authors_format import translate
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import TrainingConfig
from hyperformer.settings.values import settings
from hyperformer.training.optimization.loss import token_loss
from hyperformer.training.optimization.optimizer import make_optimizer


def reference_model(
    t5: dict[str, Any],
    theirs: dict[str, Any],
    weights: dict[str, Tensor],
    shared: dict[str, Any] | None = None,
) -> HyperformerT5:
    """Our model with the authors' weights.

    Args:
        theirs: `tasks`, and for a model with adapters their adapter settings.
        shared: `adapters` and `task_embeddings`: a name per task, where tasks share them.
    """
    has_adapters = "adapter_config_name" in theirs
    values, _ = translate({"train_adapters": has_adapters, "max_steps": 1, **theirs}, "golden.json")
    for key in ("adapters", "task_embeddings"):
        if settings()[key].is_used(values) and shared and shared[key] is not None:
            values[key] = shared[key]
    adapter = make_config(values).adapter
    config = hyperformer_config(T5Config(**t5), adapter, tuple(theirs["tasks"]))
    # A bias of zero changes nothing, but must be there when the weights are converted back.
    config.cross_attention_bias = CROSS_BIAS in weights
    model = new_model(config)
    load_reference_state_dict(model, weights)
    return model.eval()


@dataclass(frozen=True)
class Fixture:
    """One folder of the reference: a model of theirs with inputs and what came out."""

    folder: Path

    @cached_property
    def golden(self) -> dict[str, Any]:
        return json.loads((self.folder / "golden.json").read_text())

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.folder / "state_dict.safetensors")

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")

    def model(self, weights: dict[str, Tensor] | None = None) -> HyperformerT5:
        """Ours, with their weights, trained as theirs is."""
        golden = self.golden
        plain = "adapter_config_name" not in (golden["adapter_args"] or {})
        theirs = {"tasks": golden["tasks"]} | ({} if plain else golden["adapter_args"])
        model = reference_model(
            golden["t5_config"], theirs, self.weights if weights is None else weights, shared=golden
        )
        trained = set(golden["trainable"])
        model.requires_grad_(False)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for theirs, ours, _ in reference_entries(model):
            if theirs in trained:
                parameters[ours].requires_grad_(True)
        return model

    def inputs(self, task: str) -> dict[str, Tensor]:
        prefix = f"{task}."
        return {k.removeprefix(prefix): v for k, v in self.tensors("inputs").items() if k.startswith(prefix)}


def forward(model: HyperformerT5, inputs: dict[str, Tensor], **which: Any) -> Tensor:
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    return model(**{name: inputs[name] for name in names}, **which).logits


def smoothed_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """The authors' training loss; their labels are padded with 0, ours with -100."""
    return token_loss(logits, labels.masked_fill(labels == 0, -100), 0.1)


def logits_difference(fixture: Fixture) -> float:
    """Largest difference of a logit, over the tasks, by name and by ids."""
    model, worst = fixture.model(), 0.0
    outputs = fixture.tensors("outputs")
    for number, task in enumerate(fixture.golden["tasks"]):
        inputs = fixture.inputs(task)
        ids = torch.full((len(inputs["input_ids"]),), number)
        with torch.no_grad():
            for which in ({"task": task}, {"task_ids": ids}):
                worst = max(
                    worst, float((forward(model, inputs, **which) - outputs[f"logits.{task}"]).abs().max())
                )
    return worst


def loss_difference(fixture: Fixture) -> float:
    """Largest relative difference of a loss: plain, counting padding, and smoothed."""
    model, worst = fixture.model(), 0.0
    for task, theirs in fixture.golden["losses"].items():
        inputs = fixture.inputs(task)
        labels = inputs["labels"]
        with torch.no_grad():
            logits = forward(model, inputs, task=task)
        flat = logits.flatten(0, 1)
        ours = {
            "ce_ignore_pad_mean": F.cross_entropy(flat, labels.flatten(), ignore_index=0),
            "ce_counting_pad_mean": F.cross_entropy(flat, labels.flatten()),
            "label_smoothed_0p1_sum": smoothed_sum(logits, labels),
        }
        for name, value in ours.items():
            worst = max(worst, abs(float(value) - theirs[name]) / abs(theirs[name]))
    return worst


def gradient_difference(fixture: Fixture) -> float:
    """Largest relative difference of a gradient's norm, over parameters (as theirs are cut) and tasks."""
    model, worst = fixture.model(), 0.0
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for task, norms in fixture.golden["grad_norms"].items():
        inputs = fixture.inputs(task)
        model.zero_grad()
        smoothed_sum(forward(model, inputs, task=task), inputs["labels"]).backward()
        for theirs, ours, where in reference_entries(model):
            gradient = parameters[ours].grad
            if gradient is None or theirs not in norms:
                continue
            # Where theirs has no gradient, another task's adapter say, ours is zero.
            norm = float((gradient if where is None else gradient[where]).norm())
            expected = norms[theirs] or 0.0
            worst = max(worst, abs(norm - expected) / max(expected, 1e-3))
    return worst


def generation_agrees(fixture: Fixture) -> bool:
    """Whether greedy and beam-4 output are identical for every task."""
    model = fixture.model()
    modes: dict[str, dict[str, int]] = {
        "greedy": {"num_beams": 1},
        "beam4": {"num_beams": 4},
        "greedy_min_length10": {"num_beams": 1, "min_length": 10},
    }
    return all(
        model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            task=task,
            max_length=len(expected[mode][0]),
            do_sample=False,
            **settings,
        ).tolist()
        == expected[mode]
        for task, expected in fixture.golden["generated"].items()
        for inputs in [fixture.inputs(task)]
        for mode, settings in modes.items()
    )


# AdamW's first steps have the size of the learning rate however small the gradient is: where
# the clipped gradient is below this, float32 rounding decides the sign and no bound can hold.
ROUNDING = 1e-4


def weights_difference(fixture: Fixture, trace: str = "torch17") -> tuple[float, float]:
    """After three steps of the authors' AdamW, one a task, clipped at 1.

    Returns:
        The largest difference of a weight whose gradients are all above rounding
        or exactly zero, and the share of the weights for which that is so.
    """
    model, settings = fixture.model(), fixture.golden["adamw"]
    config = TrainingConfig(
        learning_rate=settings["lr"],
        adam_epsilon=settings["eps"],
        weight_decay=0.1 if trace.endswith("wd0.1") else 0.0,
        reference_optimizer=True,
    )
    optimizer = make_optimizer(model, config)
    expected = fixture.tensors(f"after3_{trace}")
    parameters = dict(model.named_parameters())
    entries = [entry for entry in reference_entries(model) if entry[0] in expected and entry[1] in parameters]
    clear = {name: torch.ones_like(value, dtype=torch.bool) for name, value in expected.items()}
    for task in settings["order"]:
        inputs = fixture.inputs(task)
        optimizer.zero_grad()
        smoothed_sum(forward(model, inputs, task=task), inputs["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        for theirs, ours, where in entries:
            whole = parameters[ours].grad
            assert whole is not None
            gradient = whole if where is None else whole[where]
            clear[theirs] &= (gradient == 0) | (gradient.abs() > ROUNDING)
        optimizer.step()
    ours_now = reference_state_dict(model)
    worst = max(
        float(((ours_now[name] - value).abs() * clear[name]).max()) for name, value in expected.items()
    )
    compared = sum(int(mask.sum()) for mask in clear.values()) / sum(mask.numel() for mask in clear.values())
    return worst, compared


def cross_bias_difference(fixture: Fixture) -> float:
    """Largest difference of a logit with old T5's position bias in cross-attention."""
    crossed = fixture.tensors("crossbias")
    bias = {name: value for name, value in crossed.items() if not name.startswith("logits.")}
    model, worst = fixture.model({**fixture.weights, **bias}), 0.0
    for task in fixture.golden["tasks"]:
        with torch.no_grad():
            logits = forward(model, fixture.inputs(task), task=task)
        worst = max(worst, float((logits - crossed[f"logits.{task}"]).abs().max()))
    return worst


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from places import reference_settings

    print(
        f"{'setting':<26}{'logits':>10}{'losses':>10}{'gradients':>11}{'weights':>10}{'wd 0.1':>10}"
        f"{'of them':>9}{'cross bias':>12}  generated"
    )
    for folder in reference_settings():
        fixture = Fixture(folder)
        decayed = (folder / "after3_torch17_wd0.1.safetensors").exists()
        weights, compared = weights_difference(fixture)
        with_decay = weights_difference(fixture, "torch17_wd0.1")[0] if decayed else float("nan")
        print(
            f"{folder.name:<26}{logits_difference(fixture):>10.1e}{loss_difference(fixture):>10.1e}"
            f"{gradient_difference(fixture):>11.1e}{weights:>10.1e}{with_decay:>10.1e}{compared:>9.1%}"
            f"{cross_bias_difference(fixture):>12.1e}  "
            f"{'identical' if generation_agrees(fixture) else 'DIFFERENT'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
