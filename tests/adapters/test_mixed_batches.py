"""A step on rows of several tasks has the gradient of the tasks one after another, for every method."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Config

from hyperformer.adapters import modules
from hyperformer.adapters.build import build_model
from hyperformer.adapters.functional import GroupedWeights, SiteWeights
from hyperformer.errors import ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.methods import METHODS
from hyperformer.training.optimization.loss import batch_loss

TASKS = ["cola", "mrpc", "stsb", "rte"]
ROWS = ["cola", "mrpc", "mrpc", "mrpc", "rte", "rte"]
T5 = T5Config(
    vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4,
    dropout_rate=0.0, decoder_start_token_id=0,
)  # fmt: skip


def build(kind: str, **more: Any) -> Any:
    values = {"tasks": TASKS, "adapter": kind, "batching": "mixed", **more}
    if "reduction_factor" in METHODS[kind].options:
        values["reduction_factor"] = 4
    torch.manual_seed(0)
    model = build_model(make_config(values), t5=T5).train()
    with torch.no_grad():  # at the start many adapters hardly matter
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1 * parameter.requires_grad)
    return model


def gradients(model: Any, groups: list[tuple[slice, Any]]) -> dict[str, torch.Tensor]:
    """Of the losses of some rows each, summed."""
    generator = torch.Generator().manual_seed(1)
    source, labels = (torch.randint(2, 96, (len(ROWS), length), generator=generator) for length in (9, 4))
    mask = torch.ones_like(source)
    mask[1, 5:], labels[2, 2:] = 0, -100
    model.zero_grad()
    for rows, task in groups:
        batch = {"input_ids": source[rows], "attention_mask": mask[rows], "labels": labels[rows]}
        batch_loss(model, batch, task, 0.1).backward()
    return {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("kind", [*METHODS, "task, some shared"])
def test_the_gradient_is_that_of_the_tasks_one_after_another(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, _, shared = kind.partition(", ")
    more: dict[str, Any] = {"adapters": ["a", "b", "a", "a"]} if shared else {}
    if METHODS[kind].extra:
        pytest.importorskip(METHODS[kind].extra, reason="it is an extra")
        with pytest.raises(ConfigError, match=f"adapter is {kind}: peft trains one adapter per forward"):
            build(kind)
        more = {"adapters": ["shared"] * 4}
    model = build(kind, **more)
    alone = gradients(model, [(slice(0, 1), "cola"), (slice(1, 4), "mrpc"), (slice(4, 6), "rte")])
    for tokens in (0, 10**9):  # in groups, and row by row
        monkeypatch.setattr(modules, "_TOKENS_PER_GROUP", tokens)
        mixed = gradients(model, [(slice(None), ROWS)])
        assert mixed.keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(
                mixed[name], gradient, rtol=1e-4, atol=2e-5 * gradient.abs().max().item()
            )


def test_a_cpu_computes_few_large_groups_one_by_one_and_others_row_by_row() -> None:
    model = build("hypernetwork_shared")

    def kind(tasks: list[int], tokens: int) -> type:
        return type(model.adapters("encoder", torch.tensor(tasks), torch.zeros(len(tasks), tokens))[0])

    assert kind([0, 0, 0, 2, 2, 3], 64) is GroupedWeights
    assert kind([0, 0, 0, 2, 2, 3], 8) is SiteWeights
    assert kind([0, 2, 0, 2, 2, 3], 64) is SiteWeights  # not in groups
    model.eval()
    assert kind([0, 0, 0, 2, 2, 3], 64) is SiteWeights
