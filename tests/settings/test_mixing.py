"""How tasks are mixed: checked when it is set, and part of the signature where it changes a run."""

from __future__ import annotations

from typing import Any

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.config_files import load_config
from hyperformer.settings.methods import METHODS
from hyperformer.settings.signature import signature
from hyperformer.training.ranks.task_processes import one_per_task


def test_mixing_is_checked_and_keeps_the_signatures_of_plain_runs() -> None:
    plain = {"tasks": ["rte", "cola"]}
    one = signature(make_config(plain))
    assert signature(make_config(plain | {"mixing": "temperature", "mixing_cap": None})) == one
    proportional = signature(make_config(plain | {"mixing": "proportional"}))
    assert proportional == signature(make_config(plain | {"temperature": 1})) != one
    weights = {"mixing": "weights", "task_weights": {"rte": 1, "cola": 2}}
    others = [
        plain | more
        for more in (
            {"mixing": "equal"},
            {"mixing_cap": 9},
            {"mixing_cap": {"rte": 9}},
            weights,
            {"batching": "mixed"},
        )
    ]
    found = [signature(make_config(values)) for values in others]
    assert len({one, proportional, *found}) == 7
    for values, expected in zip(others, found, strict=True):
        assert signature(make_config(flatten(make_config(values)))) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixing": "weights"}, "mixing is 'weights', but there are no task_weights"),
        ({"task_weights": {"rte": 1}}, "but mixing is temperature: write mixing=weights"),
        ({"mixing": "weights", "task_weights": {"rte": 1, "cola": 1, "mnli": 1}}, "mnli is none of the run's tasks"),
        ({"mixing": "weights", "task_weights": {"rte": 1}}, "it has no weight of cola"),
        ({"mixing": "weights", "task_weights": {"rte": 0, "cola": 1}}, "must be greater than 0"),
        ({"mixing": "weights", "task_weights": {"rte": "much", "cola": 1}}, "must be a map of numbers"),
        ({"mixing": "weights", "task_weights": {"rte": None, "cola": 1}}, "must be a map of numbers"),
        ({"mixing": "weights", "task_weights": 3}, "must be a map of numbers"),
        ({"mixing": "wieghts"}, "one of temperature, proportional, equal, weights"),
        ({"mixing_cap": 0}, "mixing_cap is 0, but must be greater than 0"),
        ({"mixing_cap": 2.5}, "must be a whole number or a map of numbers"),
        ({"mixing_cap": {"rte": -1}}, "must be greater than 0"),
        ({"mixing_cap": {"mnli": 5}}, "mnli is none of the run's tasks"),
        ({"mixing_cap": 5, "mixing": "equal"}, "mixing is equal, which does not depend on the tasks' sizes"),
        ({"mixing": "equal", "temperature": 2}, "temperature is 2.0, but mixing is equal"),
        ({"mixing": "equal", "reference_sampler": True}, "the authors draw by temperature"),
        ({"mixing_cap": 5, "reference_sampler": True}, "the authors draw by temperature, without a cap"),
        ({"group_by_length": True, "reference_sampler": True}, "the authors draw rows whatever their length"),
        ({"batching": "mixed", "reference_sampler": True}, "the authors' batches are each of one task"),
        ({"batching": "mixed", "group_by_length": True}, "group_by_length is True, but batching is mixed"),
        *(
            (
                {"batching": "mixed", "adapter": kind},
                rf"adapter is {kind}: peft trains one adapter per forward\. .*adapters=\[shared, shared\]",
            )
            for kind, facts in METHODS.items()
            if facts.extra
        ),
    ],
)  # fmt: skip
def test_mixing_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({"tasks": ["rte", "cola"], **settings})


def test_mixing_is_written_as_yaml() -> None:
    words = ["tasks=rte,cola", "mixing=weights", "task_weights={rte: 2, cola: 0.5}"]
    assert load_config("adapters_dagger", words).data.task_weights == {"rte": 2.0, "cola": 0.5}
    assert load_config("adapters_dagger", ["tasks=rte,cola", "mixing_cap=100"]).data.mixing_cap == 100
    config = load_config("adapters", ["tasks=rte,cola", "mixing_cap={rte: 100}"])
    assert [one.data.mixing_cap for one in one_per_task(config)] == [None, None]
    mixed = one_per_task(load_config("adapters", ["tasks=rte,cola", "batching=mixed"]))
    assert [one.data.batching for one in mixed] == ["task", "task"]
