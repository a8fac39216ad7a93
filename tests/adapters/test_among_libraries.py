"""What transformers, torch and their users do with a model: read its signature, copy, share and compile it."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model import KINDS, T5, TASKS, batch, make_model
from torch.optim.swa_utils import AveragedModel
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

from hyperformer.adapters.model import HyperformerT5
from hyperformer.errors import ConfigError

IDS = [2, 0, 1, 1, 0, 2]
SHORT = {"max_length": 8, "do_sample": False}


def sources(rows: int = 6) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch(rows).items() if name != "labels"}


def test_forward_shows_t5s_parameters() -> None:
    theirs = list(inspect.signature(T5ForConditionalGeneration.forward).parameters.values())
    ours = list(inspect.signature(HyperformerT5.forward).parameters.values())
    assert [(p.name, p.kind) for p in ours[: len(theirs) - 1]] == [(p.name, p.kind) for p in theirs[:-1]]
    assert ours[-1] == theirs[-1]


def test_positional_arguments_are_t5s() -> None:
    model, rows = make_model("task"), batch()
    by_place = model(rows["input_ids"], rows["attention_mask"], rows["labels"], task="mrpc")
    by_name = model(**sources(), decoder_input_ids=rows["labels"], task="mrpc")
    assert torch.equal(by_place.logits, by_name.logits)


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_from_a_training_batch_and_from_encoder_outputs(beams: int) -> None:
    model, options = make_model("hypernetwork_shared"), {**SHORT, "num_beams": beams, "task_ids": IDS}
    expected = model.generate(**sources(), **options)
    assert torch.equal(model.generate(**batch(), **options), expected)
    assert torch.equal(model.generate(sources()["input_ids"], **options), expected)
    for which in ({"task_ids": IDS}, {"task_ids": torch.tensor(IDS)}):
        encoded = model.get_encoder()(**sources(), **which)
        mask = sources()["attention_mask"]
        found = model.generate(encoder_outputs=encoded, attention_mask=mask, **options)
        assert torch.equal(found, expected)
    named = model.generate(**batch(), **SHORT, task="mrpc", num_beams=beams)
    assert torch.equal(named[IDS.index(1)], expected[IDS.index(1)][: named.shape[1]])


def test_seq2seq_trainer(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs it")
    model, rows = make_model("hypernetwork_shared"), batch()
    data = [{**{name: rows[name][i].tolist() for name in rows}, "task_ids": IDS[i]} for i in range(6)]
    arguments = Seq2SeqTrainingArguments(
        str(tmp_path), per_device_train_batch_size=6, per_device_eval_batch_size=6, max_steps=2,
        predict_with_generate=True, generation_max_length=8, report_to=[], use_cpu=True, save_strategy="no",
    )  # fmt: skip
    trainer = Seq2SeqTrainer(model, arguments, train_dataset=data)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer.train()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}
    predicted = torch.tensor(trainer.predict(data).predictions)
    expected = model.eval().generate(**sources(), **SHORT, task_ids=IDS)
    assert torch.equal(predicted[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_model_in_several_threads(kind: str) -> None:
    model, rows = make_model(kind), batch()
    calls = [(task, generate) for task in TASKS for generate in (False, True)] * 4

    def call(task: str, generate: bool) -> torch.Tensor:
        if generate:
            return model.generate(**sources(), **SHORT, task=task)
        return model(**rows, task=task).logits

    expected = {each: call(*each) for each in set(calls)}
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda each: call(*each), calls))
    assert all(torch.equal(value, expected[each]) for each, value in zip(calls, found, strict=True))


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_stands_alone(kind: str, make_copy: Any) -> None:
    model = make_model(kind, add_layer_norm_before_adapter=True)
    expected = model(**batch(), task_ids=IDS).logits
    other = make_copy(model)
    assert torch.equal(other(**batch(), task_ids=IDS).logits, expected)
    with torch.no_grad():
        for parameter in other.adapters.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(**batch(), task_ids=IDS).logits, expected)
    loss = other(**batch(), task_ids=IDS).loss
    assert not torch.isclose(loss, model(**batch(), task_ids=IDS).loss)
    loss.backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(p.grad is not None for p in other.parameters() if p.requires_grad)


def test_a_copy_of_a_model_with_old_t5s_bias() -> None:
    model = make_model("task")
    config = copy.deepcopy(model.config)
    config.cross_attention_bias = True
    crossed = HyperformerT5(config).eval()
    torch.nn.init.normal_(crossed.decoder.block[0].layer[1].EncDecAttention.relative_attention_bias.weight)
    other = pickle.loads(pickle.dumps(crossed))
    assert torch.equal(other(**batch(), task="cola").logits, crossed(**batch(), task="cola").logits)


def test_an_averaged_model() -> None:
    model = make_model("hypernetwork_shared")
    averaged, states = AveragedModel(model), []
    for value in (0.5, -0.25):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(value)
        averaged.update_parameters(model)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    mean = {name: (value + states[1][name]) / 2 for name, value in states[0].items()}
    model.load_state_dict(mean)
    torch.testing.assert_close(averaged(**batch(), task="stsb").logits, model(**batch(), task="stsb").logits)


@pytest.mark.parametrize(
    "which",
    [
        {"task": "mrpc"},
        {"task_ids": torch.tensor(IDS)},
        pytest.param({"task_ids": IDS}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_to_one_graph(kind: str, which: dict[str, Any]) -> None:
    model = make_model(kind)
    torch.compiler.reset()
    # fullgraph: a break in the graph is an error.
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(**batch(), **which).logits, model(**batch(), **which).logits)
        if isinstance(which.get("task_ids"), torch.Tensor):
            with pytest.raises(RuntimeError, match="not that of one of the model's tasks"):
                compiled(**batch(), task_ids=which["task_ids"] - 1)


class TestAssistedDecoding:
    def check(self, assistant: Any, kind: str = "hypernetwork_shared") -> None:
        model, options = make_model(kind), {"max_length": 12, "do_sample": False, "task": "stsb"}
        expected = model.generate(**sources(1), **options)
        assert torch.equal(model.generate(**sources(1), **options, assistant_model=assistant), expected)

    @pytest.mark.parametrize("kind", ["task", "hypernetwork_shared", "none"])
    def test_by_a_model_of_ours(self, kind: str) -> None:
        self.check(make_model(kind))

    def test_an_equal_assistant_is_always_right(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would not be with another task, or with the weights of the model that it helps."""
        steps: list[Any] = []
        forward = HyperformerT5.forward

        @functools.wraps(forward)
        def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            steps.append(self)
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(HyperformerT5, "forward", counted)
        model, assistant = make_model("hypernetwork_shared"), make_model("hypernetwork_shared")
        with torch.no_grad():
            for parameter in assistant.adapters.parameters():  # type: ignore[union-attr]
                parameter.mul_(1 + 1e-6)
        model.generate(
            **sources(1),
            task="stsb",
            max_length=12,
            min_length=12,
            do_sample=False,
            assistant_model=assistant,
        )
        # Of 11 new tokens the model itself makes those that the assistant did not: all of its were right.
        assert steps.count(model) == 11 - steps.count(assistant) < 11

    def test_of_a_model_without_adapters(self) -> None:
        self.check(make_model("task"), kind="none")
        stock = T5Config(**T5 | {"num_decoder_layers": T5["num_layers"]})
        self.check(T5ForConditionalGeneration(stock).eval(), kind="none")

    def test_by_a_stock_t5(self) -> None:
        with pytest.raises(ConfigError, match="T5ForConditionalGeneration, which cannot be told the task"):
            self.check(T5ForConditionalGeneration(T5Config(**T5)).eval())

    def test_by_a_model_of_other_tasks(self) -> None:
        other = make_model("task")
        other.config.tasks = TASKS[::-1]
        with pytest.raises(ConfigError, match="in the same order"):
            self.check(other)


@pytest.mark.parametrize(
    "task_ids",
    [
        tuple(IDS), np.array(IDS), np.array(IDS, dtype=np.uint8)[:, None], [[number] for number in IDS],
        torch.tensor(IDS, dtype=torch.int32), torch.tensor(IDS)[:, None], [torch.tensor(i) for i in IDS],
        [TASKS[i] for i in IDS], np.array([TASKS[i] for i in IDS]), [np.int64(2), "cola", 1, "mrpc", 0, 2],
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["task", "hypernetwork_shared"])
def test_tasks_of_the_rows_in_any_form(kind: str, task_ids: Any) -> None:
    model = make_model(kind)
    expected = model(**batch(), task_ids=torch.tensor(IDS)).logits
    assert torch.equal(model(**batch(), task_ids=task_ids).logits, expected)
    beams = {**SHORT, "num_beams": 2}
    expected = model.generate(**sources(), **beams, task_ids=torch.tensor(IDS))
    assert torch.equal(model.generate(**sources(), **beams, task_ids=task_ids), expected)


@pytest.mark.parametrize("task_ids", [1, np.int64(1), torch.tensor(1), np.array(1), "mrpc"], ids=repr)
def test_one_task_in_any_form(task_ids: Any) -> None:
    model = make_model("task")
    assert torch.equal(model(**batch(), task_ids=task_ids).logits, model(**batch(), task="mrpc").logits)
    found = model.generate(**sources(), **SHORT, task_ids=task_ids)
    assert torch.equal(found, model.generate(**sources(), **SHORT, task="mrpc"))


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ({}, "say for which task"),
        ({"task": "cola", "task_ids": IDS}, "give one of them"),
        ({"task": "colla"}, "did you mean 'cola'"),
        ({"task_ids": -1}, "-1 is not the number of a task; the 3 tasks count from 0"),
        ({"task_ids": 3}, "3 is not the number"),
        ({"task_ids": torch.tensor(3)}, "3 is not the number"),
        ({"task_ids": [0, 1, 2, 0, 1, -1]}, "-1 is not the number"),
        ({"task_ids": torch.tensor([0, 1, 2, 0, 1, 7])}, "7 is not the number"),
        ({"task_ids": np.array([0, 1, 2, 0, 1, 7])}, "7 is not the number"),
        ({"task_ids": ["cola", "mrpc", "stbs", "cola", "cola", "cola"]}, "did you mean 'stsb'"),
        ({"task_ids": [0, 1, 2]}, "3 tasks for a batch of 6 rows"),
        ({"task_ids": torch.zeros(3, dtype=torch.long)}, "3 tasks for a batch of 6 rows"),
        ({"task_ids": torch.zeros(12, dtype=torch.long)}, "12 tasks for a batch of 6 rows"),
        ({"task_ids": [1]}, "1 tasks for a batch of 6 rows"),
        ({"task_ids": []}, "0 tasks for a batch of 6 rows"),
        ({"task_ids": torch.zeros(6, 2, dtype=torch.long)}, r"shape \(6, 2\)"),
        ({"task_ids": np.zeros((6, 2), int)}, "neither the number nor the name"),
        ({"task_ids": torch.zeros(6)}, "whole numbers, not torch.float32"),
        ({"task_ids": torch.zeros(6, dtype=torch.bool)}, "whole numbers, not torch.bool"),
        ({"task_ids": [0.0] * 6}, "0.0 is neither"),
        ({"task_ids": True}, "True is neither"),
        ({"task_ids": {"cola"}}, "neither the number nor the name"),
    ],
    ids=str,
)
def test_wrong_tasks(which: dict[str, Any], message: str) -> None:
    model = make_model("task")
    for call in (
        lambda: model(**batch(), **which),
        lambda: model.generate(**sources(), **SHORT, **which),
        lambda: model.generate(**sources(), **SHORT, **which, num_beams=2),
        lambda: model.generate(sources()["input_ids"], **SHORT, **which),
        lambda: model.encoder(**sources(), **which),
        lambda: model.generate(encoder_outputs=(torch.zeros(6, 9, 32),), **SHORT, **which),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_a_model_without_adapters_refuses_a_wrong_task_too() -> None:
    model = make_model("none")
    for which in ({"task": "colla"}, {"task_ids": 3}, {"task_ids": [0]}, {"task": "cola", "task_ids": 0}):
        with pytest.raises(ConfigError):
            model(**batch(), **which)
        with pytest.raises(ConfigError):
            model.generate(**sources(), **SHORT, **which)
    expected = model(**batch()).logits
    assert torch.equal(model(**batch(), task="mrpc").logits, expected)
    assert torch.equal(model(**batch(), task_ids=IDS).logits, expected)
    # A plain T5 knows no tasks.
    model.config.tasks = []
    assert torch.equal(model(**batch(), task="anything").logits, expected)


@pytest.mark.parametrize("settings", [{"use_reentrant": True}, {}, None], ids=str)
@pytest.mark.parametrize("name", ["activation_checkpointing_enable", "gradient_checkpointing_enable"])
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_reentrant_checkpointing_is_refused_for_a_hypernetwork(
    name: str, settings: dict[str, Any] | None
) -> None:
    for kind in KINDS:
        plain = make_model(kind).train()
        model = make_model(kind).train()
        if settings and kind != "task":
            with pytest.raises(ConfigError, match=f"re-entrant gradient checkpointing.*{kind}"):
                getattr(model, name)(settings)
            continue
        getattr(model, name)(settings)
        for each in (plain, model):
            each(**batch(), task_ids=IDS, use_cache=False).loss.backward()
        for (key, expected), found in zip(plain.named_parameters(), model.parameters(), strict=True):
            if expected.grad is not None:
                torch.testing.assert_close(found.grad, expected.grad, msg=key, atol=1e-6, rtol=1e-5)
