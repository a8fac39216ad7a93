"""The stream of batches: its distribution, its order, its position; and the authors' draws."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from reference_files import reference

from hyperformer.data.sampling.mixed import MixedSampler
from hyperformer.data.sampling.mixing import Mixing
from hyperformer.data.sampling.sampler import ReferenceSampler, TaskSampler
from hyperformer.errors import CheckpointError, ConfigError, DataError

SIZES = {"small": 10, "middle": 37, "large": 300}


def sampler(
    batch_size: int = 8,
    *,
    sizes: dict[str, int] = SIZES,
    temperature: float = 2.0,
    seed: int = 1,
    mixing: Mixing | None = None,
) -> TaskSampler:
    return TaskSampler(sizes, batch_size, mixing=mixing or Mixing(temperature=temperature), seed=seed)


def stream(source: TaskSampler | ReferenceSampler, batches: int) -> list[tuple[str, list[int]]]:
    return [(task, rows.tolist()) for task, rows in (source.next_batch() for _ in range(batches))]


def rows_of(task: str, batches: list[tuple[str, list[int]]]) -> list[int]:
    return [row for name, rows in batches if name == task for row in rows]


def test_distribution_is_the_authors_at_glues_sizes() -> None:
    for theirs in reference("data/sampler_glue.json").values():
        sizes = dict(zip(theirs["order"], theirs["sizes"], strict=True))
        for temperature in (1, 2, 5, 10):
            expected = [theirs[str(temperature)]["distribution"][task] for task in sizes]
            found = Mixing(temperature=temperature).distribution(sizes)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_tasks_come_as_often_as_they_should() -> None:
    source = sampler(1)
    counts = Counter(task for task, _ in stream(source, 20_000))
    shares = [counts[task] / 20_000 for task in SIZES]
    np.testing.assert_allclose(shares, source.distribution, atol=0.01)


@pytest.mark.parametrize(
    ("mixing", "shares"),
    [
        (Mixing("proportional"), [10 / 347, 37 / 347, 300 / 347]),
        (Mixing("proportional", cap=30), [1 / 7, 3 / 7, 3 / 7]),
        (Mixing("proportional", cap={"large": 20, "small": 50}), [10 / 67, 37 / 67, 20 / 67]),
        (Mixing("temperature", 2.0, cap=10), [1 / 3] * 3),
        (Mixing("equal"), [1 / 3] * 3),
        (Mixing("weights", weights={"large": 1, "small": 2.5, "middle": 0.5}), [0.625, 0.125, 0.25]),
    ],
)
def test_other_ways_to_mix(mixing: Mixing, shares: list[float]) -> None:
    source = sampler(mixing=mixing)
    np.testing.assert_allclose(source.distribution, shares, rtol=1e-12)
    batches = stream(source, 50)
    assert source.drawn == {task: len(rows_of(task, batches)) for task in SIZES}
    state = json.loads(json.dumps(source.state_dict()))
    resumed = sampler(mixing=mixing)
    resumed.load_state_dict(state)
    assert stream(resumed, 20) == stream(source, 20) and resumed.drawn == source.drawn
    with pytest.raises(CheckpointError, match="temperature was|mixing was"):
        sampler(mixing=Mixing("weights", weights=dict.fromkeys(SIZES, 1.0))).load_state_dict(state)


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        (
            Mixing(temperature=0.001),
            r"temperature is 0.001: a size.* is too large a number; write a higher one",
        ),
        (Mixing("weights", weights=dict.fromkeys(SIZES, 1e308)), "task_weights: their sum is too large"),
    ],
)
def test_what_no_number_can_hold(mixing: Mixing, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler(mixing=mixing)


def test_proportional_is_temperature_1_and_a_plain_position_is_as_it_was() -> None:
    one, other = sampler(mixing=Mixing("proportional", 10.0)), sampler(temperature=1.0)
    assert one.state_dict() == other.state_dict() and stream(one, 30) == stream(other, 30)
    assert set(other.state_dict()) == {"kind", "seed", "temperature", "sizes", "batches", "rows"}


def test_every_pass_has_every_row_once_and_another_order() -> None:
    rows = rows_of("middle", stream(sampler(), 200))
    passes = [rows[start : start + 37] for start in range(0, len(rows) - 36, 37)]
    assert len(passes) > 3
    assert all(sorted(part) == list(range(37)) for part in passes)
    assert len({tuple(part) for part in passes}) == len(passes)


def test_a_tasks_order_does_not_depend_on_batch_size_or_other_tasks() -> None:
    rows = rows_of("middle", stream(sampler(8), 300))
    others = (sampler(3), sampler(50), sampler(8, sizes={"middle": 37}), sampler(8, temperature=10.0))
    for other in others:
        also = rows_of("middle", stream(other, 300))
        shared = min(len(rows), len(also))
        assert shared > 100 and rows[:shared] == also[:shared]
    assert rows[:37] != rows_of("middle", stream(sampler(seed=2), 300))[:37]


@pytest.mark.parametrize("stopped_at", [0, 1, 7, 1_023, 1_024, 1_500])
def test_going_on_from_a_position_gives_the_same_stream(stopped_at: int) -> None:
    source = sampler()
    stream(source, stopped_at)
    state = json.loads(json.dumps(source.state_dict()))
    assert len(json.dumps(state)) < 400
    resumed = sampler()
    resumed.load_state_dict(state)
    assert stream(resumed, 100) == stream(source, 100)


def test_going_on_with_another_batch_size_goes_on_in_every_task() -> None:
    source = sampler(8)
    taken = stream(source, 50)
    resumed = sampler(16)
    resumed.load_state_dict(source.state_dict())
    rows = rows_of("large", taken) + rows_of("large", stream(resumed, 50))
    expected = rows_of("large", stream(sampler(8), 150))[: len(rows)]
    assert rows[: len(expected)] == expected


LENGTHS = {task: np.random.default_rng(size).integers(1, 100, (2, size)) for task, size in SIZES.items()}


def by_length(batch_size: int = 8, sizes: dict[str, int] = SIZES) -> TaskSampler:
    mixing = Mixing("proportional")
    lengths = {task: tuple(LENGTHS[task]) for task in sizes}
    return TaskSampler(sizes, batch_size, mixing=mixing, seed=1, lengths=lengths)


@pytest.mark.parametrize("batch_size", [1, 8, 60])
def test_batches_of_like_length_have_every_row_once_in_each_pass(batch_size: int) -> None:
    batches = stream(by_length(batch_size), 400)
    for task, size in SIZES.items():
        rows = rows_of(task, batches)
        passes = [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
        assert passes and all(sorted(part) == list(range(size)) for part in passes)
        assert batch_size > size or len({tuple(part) for part in passes}) == len(passes)
    # A task's order is its own.
    alone = rows_of("large", stream(by_length(batch_size, {"large": 300}), 100))
    shared = min(len(alone), len(rows))
    assert alone[:shared] == rows[:shared]


def test_batches_of_like_length_are_padded_less_and_come_in_random_order() -> None:
    def longest(source: TaskSampler) -> np.ndarray:
        batches = [rows for task, rows in stream(source, 200) if task == "large"]
        return LENGTHS["large"][0][np.array(batches)].max(axis=1)

    random, grouped = longest(sampler(mixing=Mixing("proportional"))), longest(by_length())
    mean = LENGTHS["large"][0].mean()
    assert random.mean() / mean > 1.7 and grouped.mean() / mean < 1.15
    assert abs(np.corrcoef(grouped[:-1], grouped[1:])[0, 1]) < 0.3


@pytest.mark.parametrize("stopped_at", [0, 1, 41, 150])
def test_batches_of_like_length_resume_at_any_step(stopped_at: int) -> None:
    source = by_length()
    stream(source, stopped_at)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = by_length()
    resumed.load_state_dict(state)
    assert stream(resumed, 100) == stream(source, 100)
    for other in (by_length(16), sampler(mixing=Mixing("proportional"))):
        with pytest.raises(CheckpointError, match="group_by_length was 8"):
            other.load_state_dict(state)


def mixed(batch_size: int = 8, mixing: Mixing | None = None) -> MixedSampler:
    return MixedSampler(SIZES, batch_size, mixing=mixing or Mixing(temperature=2.0), seed=1)


def each_row(source: MixedSampler, batches: int) -> list[tuple[int, int]]:
    """(number of the task, row) of each row, as they were drawn."""
    drawn = [source.next_batch() for _ in range(batches)]
    return [pair for tasks, rows in drawn for pair in zip(tasks, rows.tolist(), strict=True)]  # type: ignore[arg-type]


def test_a_mixed_batch_has_a_task_per_row() -> None:
    source = mixed()
    found = each_row(source, 2_500)
    counts = Counter(number for number, _ in found)
    np.testing.assert_allclose([counts[n] / 20_000 for n in range(3)], source.distribution, atol=0.01)
    assert source.drawn == {task: counts[number] for number, task in enumerate(SIZES)}
    # The rows of each task are those of batches of one task; the stream does not depend on the batch size.
    for number, task in enumerate(SIZES):
        rows = [row for which, row in found if which == number]
        alone = rows_of(task, stream(sampler(8), 300))
        assert len(alone) > 100 and rows[: len(alone)] == alone
    assert each_row(mixed(20), 100) == found[:2_000]


def test_parts_of_a_mixed_batch_are_grouped_by_task() -> None:
    drawn = mixed(12).next_batch()
    whole = list(zip(drawn.task, drawn.rows.tolist(), strict=True))  # type: ignore[arg-type]
    parts = [part.by_task(SIZES) for part in drawn.parts(3)]
    for place, part in enumerate(parts):
        names = [task for task in SIZES if task in part]
        assert list(part) == names and all(len(rows) for rows in part.values())
        found = [(list(SIZES).index(task), row) for task, rows in part.items() for row in rows.tolist()]
        assert sorted(found, key=lambda one: one[0]) == found
        assert sorted(found) == sorted(whole[4 * place : 4 * place + 4])
    assert any(len(part) > 1 for part in parts)


@pytest.mark.parametrize(
    "mixing", [Mixing(temperature=2.0), Mixing("weights", weights=dict.fromkeys(SIZES, 1.0))]
)
@pytest.mark.parametrize("stopped_at", [0, 1, 127, 128, 200])
def test_mixed_batches_resume_at_any_step(stopped_at: int, mixing: Mixing) -> None:
    source = mixed(mixing=mixing)
    each_row(source, stopped_at)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = mixed(mixing=mixing)
    resumed.load_state_dict(state)
    assert each_row(resumed, 150) == each_row(source, 150) and resumed.drawn == source.drawn
    with pytest.raises(CheckpointError, match="kind was 'rows', and is now 'tasks'"):
        sampler(mixing=mixing).load_state_dict(state)


def test_a_position_in_another_stream_is_refused() -> None:
    state = sampler().state_dict()
    for other in (sampler(seed=2), sampler(temperature=1.0), sampler(sizes={"small": 11})):
        with pytest.raises(CheckpointError, match="start it with the same data"):
            other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="kind"):
        ReferenceSampler(SIZES, 8, temperature=2.0).load_state_dict(state)


def test_settings_that_cannot_be() -> None:
    for temperature in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="temperature"):
            sampler(temperature=temperature)
    with pytest.raises(ConfigError, match="batch_size"):
        sampler(0)
    with pytest.raises(ConfigError, match="no task"):
        sampler(sizes={})
    with pytest.raises(DataError, match="'empty' has no training rows"):
        sampler(sizes={"empty": 0})


@pytest.mark.parametrize(
    "trace",
    [trace for trace in reference("data/sampler.json") if trace["shuffle"]],
    ids=lambda trace: f"{trace['sizes']}-{trace['rank']}",
)
def test_the_reference_sampler_draws_as_the_authors(trace: dict) -> None:
    sizes = {str(number): size for number, size in enumerate(trace["sizes"])}
    starts = dict(zip(sizes, np.cumsum([0, *trace["sizes"]]).tolist(), strict=False))
    source = ReferenceSampler(
        sizes,
        trace["batch_size"],
        temperature=trace["temperature"],
        num_replicas=trace["num_replicas"],
        seed=trace["seed"],
    )
    source.set_epoch(trace["epoch"])
    np.testing.assert_allclose(source.distribution, trace["distribution"], rtol=1e-12)
    assert len(source) == trace["len"]
    share = slice(trace["rank"] * trace["batch_size"], (trace["rank"] + 1) * trace["batch_size"])
    batches = stream(source, len(source))
    assert [[starts[task] + row for row in rows[share]] for task, rows in batches] == trace["batches"]


def test_the_reference_sampler_at_glues_sizes() -> None:
    for theirs in reference("data/sampler_glue.json").values():
        sizes = dict(zip(theirs["order"], theirs["sizes"], strict=True))
        starts = dict(zip(sizes, np.cumsum([0, *theirs["sizes"]]), strict=False))
        one = ReferenceSampler(sizes, 32, temperature=10)
        batches = [(starts[task] + rows).tolist() for task, rows in (one.next_batch() for _ in range(3))]
        assert batches == theirs["T10_first_3_batches"] and len(one) == 29_660
        four = ReferenceSampler(sizes, 32, temperature=10, num_replicas=4)
        task, rows = four.next_batch()
        assert (starts[task] + rows).reshape(4, 32).tolist() == theirs["T10_4ranks_first_batch"]
        assert len(four) == theirs["T10_4ranks_len"]


def test_the_reference_sampler_goes_on_over_epochs() -> None:
    source = ReferenceSampler(SIZES, 8, temperature=2.0, num_replicas=2)
    epochs = [stream(source, len(source)) for _ in range(3)]
    again = ReferenceSampler(SIZES, 8, temperature=2.0, num_replicas=2)
    again.set_epoch(2)
    assert stream(again, len(again)) == epochs[2] != epochs[1]
    taken = {task: sum(len(rows_of(task, epoch)) for epoch in epochs) for task in SIZES}
    assert source.drawn == again.drawn == taken
    stream(source, 5)
    resumed = ReferenceSampler(SIZES, 8, temperature=2.0, num_replicas=2)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert stream(resumed, 40) == stream(source, 40)


def test_the_reference_sampler_where_theirs_fails() -> None:
    with pytest.raises(DataError, match="'small' has 10 rows for 16 ranks"):
        ReferenceSampler(SIZES, 1, temperature=1.0, num_replicas=16)
    with pytest.raises(ConfigError, match="fewer batches"):
        ReferenceSampler({"a": 7}, 4, temperature=1.0, num_replicas=4)
    with pytest.raises(ConfigError, match="temperature"):
        ReferenceSampler({"a": 7}, 4, temperature=0)
