"""Which runs words mean; what is fetched for them; the copy of the code that they run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.errors import HyperformerError
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.plan import Plan
from launchers.plan.resources import Resources
from launchers.plan.select_runs import select_runs
from launchers.slurm.accounting import Accounting, SubmitLimit
from launchers.slurm.group_into_arrays import Limits, group_into_arrays
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger
from launchers.store.sweep_folder import SweepFolder
from launchers.submit import prefetch

PlanOf = Callable[[str], Plan]
NO_CODE = Snapshot(Path("code"))
SWEEP = "{variants: [hyperformer, adapters], tasks: [rte, cola], grid: {seed: [1, 2], learning_rate: [3e-4, 1e-3]}}"


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["*"], 12), (["hyper*"], 4), (["seed=2"], 6), (["adapters-*", "seed=2"], 4), (["task=rte"], 8),
        (["learning_rate=0.0003"], 6), (["task=rte", "task=cola"], 4),
        (["variant=adapters", "task=rte", "seed=1"], 2), ([], 12),
    ],
)  # fmt: skip
def test_words_that_mean_runs(plan_of: PlanOf, words: list[str], number: int) -> None:
    assert len(select_runs(plan_of(SWEEP), words)) == number


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=7", "no run has seed=7; there are: 1, 2"),
        ("sed=7", "did you mean 'seed'"),
        ("x*", "no run is named"),
        ("seed=01", "did you mean 'seed=1'"),
        (
            "seed=1 seed=2",
            "no run matches all of: seed=1  seed=2; for several values of seed, name the runs",
        ),
        ("hyper* variant=adapters", r"no run matches all of: hyper\*  variant=adapters$"),
    ],
)
def test_words_that_mean_none(plan_of: PlanOf, word: str, message: str) -> None:
    with pytest.raises(HyperformerError, match=message):
        select_runs(plan_of(SWEEP), word.split())


@pytest.mark.parametrize("word", [["seed=1"], None, 3])
def test_a_word_is_a_text(plan_of: PlanOf, word: object) -> None:
    with pytest.raises(HyperformerError, match="give each name or key=value as a text of its own"):
        select_runs(plan_of(SWEEP), [word])  # type: ignore[list-item]


def test_resources_by_variant_and_by_run(plan_of: PlanOf) -> None:
    plan = plan_of(
        SWEEP[:-1]
        + ", resources: {time: 10, variants: {adapters: {time: 20}}, runs: {'*seed2': {nodes: 2}, 'x': {}}}}"
    )
    found = {run.name: run.resources for run in plan.runs}
    assert {(r.time, r.nodes) for name, r in found.items() if name.startswith("adapters")} == {
        (20, 1),
        (20, 2),
    }
    assert {(r.time, r.nodes) for name, r in found.items() if name.startswith("hyper")} == {(10, 1), (10, 2)}
    assert any("no run has such a name" in note for note in plan.notes)


def test_arrays_of_shapes_limits_and_packs(plan_of: PlanOf, tmp_path: Path) -> None:
    plan = plan_of(SWEEP[:-1] + ", resources: {variants: {adapters: {pack: 3}}}}")
    ledger, profile = Ledger(plan, tmp_path), ClusterProfile("slurm")
    accounting = Accounting(limits=(SubmitLimit("your account", 5), SubmitLimit("the QOS x", 1, qos="x")))
    arrays, left_out = group_into_arrays(ledger, plan.runs, profile, NO_CODE, Limits(3, 2, accounting))
    assert [(len(array.tasks), len(array.runs)) for array in arrays] == [(2, 2), (2, 2), (1, 3)]
    assert [array.throttle for array in arrays] == [1, 1, 1] and len(left_out) == 5
    assert [array.number for array in arrays] == [1, 2, 3] and not arrays[1].after_previous
    assert len({array.job_name for array in arrays}) == 3
    arrays, _ = group_into_arrays(ledger, plan.runs, profile, NO_CODE, Limits(parallel=1))
    assert arrays[0].resources == Resources()
    assert [array.after_previous for array in arrays] == [False, True]


def test_what_a_sweep_needs_from_the_hub(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("{variants: [hyperformer], tasks: [rte, cola], base: {model_name_or_path: org/t5}}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    names = ["model org/t5 (weights)", "data set rte (hub)", "data set cola (hub)"]
    assert prefetch.from_hub(plan.runs) == names
    (tmp_path / "hub/models--org--t5/snapshots/abc").mkdir(parents=True)
    assert prefetch.missing(plan.runs, tmp_path, {}) == names[1:]
    SweepFolder(tmp_path).prefetched.write_text(json.dumps({"verified": names}))
    assert prefetch.missing(plan.runs, tmp_path, {}) == []
    toy = plan_of(
        "{variants: [hyperformer], tasks: [toy-similarity], base: {model_name_or_path: toy, data_source: toy}}"
    )
    assert prefetch.from_hub(toy.runs) == [] and len(prefetch.needs(toy.runs)) == 2


def test_prefetch_tells_all_that_cannot_be_loaded(plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    plan = plan_of(
        "{variants: [hyperformer], tasks: [rte], base: "
        f"{{model_name_or_path: {tmp_path}/none, data_source: folder, data_dir: {tmp_path}/data}}}}"
    )
    with pytest.raises(prefetch.PrefetchError, match=r"(?s)model .*none.*data set rte"):
        prefetch.fetch(plan.runs, Ledger(plan, tmp_path / "runs").path, {})
