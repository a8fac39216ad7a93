"""The same thing written otherwise is one run; values that differ are different runs, rows and names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperformer.data.contents import identify
from hyperformer.errors import ConfigError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.signature import signature
from launchers.api import Sweep
from launchers.plan.cluster_profile import NO_PROFILE, ClusterProfile
from launchers.plan.load_plan import make_plan
from launchers.plan.plan import Plan, Run
from launchers.plan.resources import Resources
from launchers.plan.select_runs import select_runs
from launchers.plan.sweep_file import read_sweep
from launchers.store.attempts import Outcome
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedRun
from launchers.sweep import main

PlanOf = Callable[[str], Plan]


def test_values_written_otherwise_are_one_run(plan_of: PlanOf) -> None:
    plan = plan_of(
        """
        variants: [finetune]
        tasks: [rte, cola]
        zip:
          zero_stage: [3, 3.0, 3, 3]
          max_steps: [1000, 1000, 1e3, 1_000.0e0]
          learning_rate: [1e-3, 0.001, .001, 1.0e-3]
          data_source: [folder, folder, folder, folder]
          data_dir: [/d/glue, /d/glue/, /d//glue, /d/x/../glue]
        """.replace("1_000.0e0", "1000")
    )
    assert len(plan.runs) == 1 and plan.merged == 3


def test_values_that_differ_have_rows_and_names_of_their_own(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [finetune]
        tasks: [rte, cola]
        grid: {adam_beta2: [0.999999, 0.9999999, 0.99999999], seed: [1, 2]}
        """)
    assert len({run.row for run in plan.runs}) == 3 and len({run.name for run in plan.runs}) == 6
    assert "finetune-adam_beta20.99999999-seed2" in {run.name for run in plan.runs}


def test_a_seed_among_others_is_the_run_that_it_is_alone(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 42 is the default, which no signature tells; older signatures told the path as it is written.
    for task in ("rte", "mrpc"):
        (tmp_path / "glue" / task).mkdir(parents=True)
        (tmp_path / "glue" / task / "train.jsonl").write_text(json.dumps({"sentence1": task}))
    monkeypatch.chdir(tmp_path)
    text = """
        base: {{data_source: folder, data_dir: glue/../glue, loss_reduction: sum}}
        variants: [hyperformer++, adapters]
        tasks: [rte, mrpc]
        grid: {{seed: [{}], learning_rate: [1e-3, 3e-4]}}
        exclude: [{{seed: 7, learning_rate: 1e-3}}]
        """

    def plain(seeds: str) -> list[Run]:
        return [replace(run, name="", differs=()) for run in plan_of(text.format(seeds)).runs]

    together = plain("7, 42.0, 8")
    assert len({run.signature for run in together}) == len({run.legacy_signature for run in together}) == 15
    assert {run.settings_hash for run in together}.isdisjoint(run.legacy_signature for run in together)
    for run in [*plain("7"), *plain("42"), *plain("8")]:
        assert run in together
        assert signature(make_config(flatten(run.config), contents=run.config.contents)) == run.signature


def test_texts_that_look_alike_stay_apart(plan_of: PlanOf) -> None:
    plan = plan_of(
        "{variants: [finetune], tasks: [rte], grid: {tokenizer_name: [null, 'None'], seed: [1, 2]}}"
    )
    assert len({run.row for run in plan.runs}) == 2 and len({run.name for run in plan.runs}) == 4


def test_two_config_files_of_one_variant_have_rows_of_their_own(
    write_sweep: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, steps in (("a", 5), ("b", 6)):
        (tmp_path / f"{name}.json").write_text(
            f'{{"variant": "same", "tasks": ["rte"], "max_steps": {steps}}}'
        )
    plan = make_plan(
        read_sweep(write_sweep("{variants: [a.json, b.json], grid: {seed: [1, 2]}}")), NO_PROFILE
    )
    assert {run.row for run in plan.runs} == {("same", (("config", "a"),)), ("same", (("config", "b"),))}
    assert [run.name for run in plan.runs] == ["same-a-seed1", "same-a-seed2", "same-b-seed1", "same-b-seed2"]


def test_long_names_keep_their_seed(plan_of: PlanOf) -> None:
    long = ", ".join(f"'{'x' * 50}{letter}'" for letter in "ab")
    keys = ("tokenizer_name", "non_linearity", "model_name_or_path", "task_embeddings")[:3]
    grid = ", ".join(f"{key}: [{long}]" for key in keys)
    plan = plan_of(f"{{variants: [adapters_dagger], tasks: [rte, cola], grid: {{{grid}, seed: [1, 23]}}}}")
    names = [run.name for run in plan.runs]
    assert len(set(names)) == 16 and all(name.endswith(("-seed1", "-seed23")) for name in names)
    assert max(map(len, names)) <= 150


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("learning_rate=1e-3", 2), ("learning_rate=0.001", 2), ("learning_rate=.001", 2), ("learning_rate=3.0e-4", 2),
        ("data_dir=/d/glue/", 4), ("data_dir=/d//x/../glue", 4), ("do_test=true", 4), ("do_test=True", 4),
        ("tasks=rte,cola", 4), ("tasks=[rte, cola]", 4), ("tasks=rte+cola", 4), ("seed=1.0", 2), ("n_train=null", 4),
    ],
)  # fmt: skip
def test_selection_compares_values(plan_of: PlanOf, word: str, number: int) -> None:
    plan = plan_of("""
        variants: [finetune]
        tasks: [rte, cola]
        base: {data_source: folder, data_dir: /d/glue}
        grid: {learning_rate: [1e-3, 3e-4], seed: [1, 2]}
        """)
    assert len(select_runs(plan, [word])) == number


def test_exclude_compares_values(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [finetune]
        tasks: [rte, cola]
        base: {data_source: folder}
        grid: {data_dir: [/d/a/, /d/b], zero_stage: [1, 2]}
        exclude: [{data_dir: /d//a, zero_stage: 1.0}, {data_dir: [/d/b/], zero_stage: [2.0]}]
        """)
    assert [(run.config.data.data_dir, run.config.training.zero_stage) for run in plan.runs] == [
        ("/d/a", 2),
        ("/d/b", 1),
    ]


def test_ranks_count_where_losses_are_summed(write_sweep: Callable[[str], Path]) -> None:
    four = ClusterProfile("slurm", resources=Resources(gpus_per_node=4))
    for reduction, same in (("mean", True), ("sum", False)):
        file = read_sweep(
            write_sweep(
                f"{{variants: [finetune], tasks: [rte, cola], base: {{loss_reduction: {reduction}}}}}"
            )
        )
        signatures = {make_plan(file, profile).runs[0].signature for profile in (NO_PROFILE, four)}
        assert (len(signatures) == 1) is same
        local = make_plan(file, replace(four, name="local"))  # one rank per run
        assert local.runs[0].signature == make_plan(file, NO_PROFILE).runs[0].signature


ROWS = "text,label\na,yes\n"


@pytest.fixture
def with_rows(write_sweep: Callable[[str], Path], tmp_path: Path) -> Callable[[], Ledger]:
    """The ledger of a sweep whose rows are in a folder; they may change between two calls."""
    (tmp_path / "t.yaml").write_text(
        "t: {template: '{text}', target: label, labels: [yes, no], metrics: [accuracy]}\n"
    )
    (tmp_path / "rows/t").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (tmp_path / f"rows/t/{split}.csv").write_text(ROWS)
    path = write_sweep(
        "{variants: [finetune], tasks: [t], grid: {seed: [1, 2]}, base: {data_source: folder, "
        f"data_dir: {tmp_path}/rows, task_file: {tmp_path}/t.yaml}}}}"
    )
    return lambda: Ledger(make_plan(read_sweep(path), NO_PROFILE), tmp_path / "runs")


def test_other_rows_are_other_runs(with_rows: Callable[[], Ledger], tmp_path: Path) -> None:
    first = with_rows()
    first.commit()
    assert [run.signature for run in with_rows().plan.runs] == [run.signature for run in first.plan.runs]
    (tmp_path / "rows/t/train.csv").write_text(ROWS.replace("yes", "no"))
    second = with_rows()
    second.commit()
    assert not {run.signature for run in second.plan.runs} & {run.signature for run in first.plan.runs}
    assert not second.plan.notes


def test_rows_that_are_gone_leave_the_runs_as_they_are(
    with_rows: Callable[[], Ledger], tmp_path: Path
) -> None:
    for text in (ROWS, ROWS.replace("yes", "no")):
        (tmp_path / "rows/t/train.csv").write_text(text)
        last = with_rows()
        last.commit()
    (tmp_path / "rows").rename(tmp_path / "gone")
    for _ in range(2):
        without = with_rows()
        assert [run.signature for run in without.plan.runs] == [run.signature for run in last.plan.runs]
        assert any("2 runs name files that cannot be read here" in note for note in without.plan.notes)
        without.commit()
    (tmp_path / "gone").rename(tmp_path / "rows")
    assert [run.signature for run in with_rows().plan.runs] == [run.signature for run in last.plan.runs]
    assert not with_rows().plan.notes


def test_a_missing_split_counts_as_unchanged_only_if_the_others_are(
    with_rows: Callable[[], Ledger], tmp_path: Path
) -> None:
    first = with_rows()
    first.commit()
    (tmp_path / "rows/t/test.csv").unlink()
    without = with_rows()
    assert [run.signature for run in without.plan.runs] == [run.signature for run in first.plan.runs]
    (note,) = without.plan.notes
    assert f"2 runs name files that cannot be read here ({tmp_path}/rows/t/test)" in note
    (tmp_path / "rows/t/train.csv").write_text(ROWS.replace("yes", "no"))
    other = with_rows()
    assert not {run.signature for run in other.plan.runs} & {run.signature for run in first.plan.runs}


def break_tasks(folder: Path) -> None:
    (folder / "t.yaml").write_text("t: {template: ")


def remove_tasks(folder: Path) -> None:
    (folder / "t.yaml").unlink()


def give_a_second_format(folder: Path) -> None:
    (folder / "rows/t/train.tsv").write_text("text\tlabel\n")


@pytest.mark.parametrize(
    ("damage", "key"), [(break_tasks, "t.yaml"), (remove_tasks, "t.yaml"), (give_a_second_format, "data_dir")]
)
def test_a_broken_input_stops_only_what_starts(
    with_rows: Callable[[], Ledger], tmp_path: Path, damage: Callable[[Path], None], key: str
) -> None:
    before = with_rows()
    before.commit()
    before.note_not_started(before.plan.runs[0], Outcome("failed", "no room"))
    damage(tmp_path)
    sweep = Sweep.load(tmp_path / "s.yaml", tmp_path / "runs", cluster="local")
    view = sweep.view()
    assert [run.signature for run in view.runs] == [run.signature for run in before.plan.runs]
    assert any(key in note and "Nothing can start" in note for note in view.notes)
    name = view.runs[0].name
    assert sweep.report()[0].exists() and sweep.cancel() == [] and "no room" in sweep.why()[name]
    assert view.statuses[0].state == "failed"
    for starts in (sweep.submit, sweep.retry, sweep.dry_run, sweep.prefetch):
        with pytest.raises(ConfigError, match=rf"s\.yaml, line 1, base\.\w+: .*{key}"):
            starts()
    words = [str(tmp_path / "s.yaml"), "--runs-dir", str(tmp_path / "runs")]
    assert (main(["plan", *words]), main(["logs", words[0], "*", *words[1:]])) == (2, 0)


def former_signature(**told: object) -> str:
    """As versions computed it that hashed paths as they were spelled, and no contents."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]


@pytest.mark.parametrize("slash", ["", "/"])
def test_runs_of_an_earlier_version_keep_their_folders(
    with_rows: Callable[[], Ledger], write_sweep: Callable[[str], Path], tmp_path: Path, slash: str
) -> None:
    """The sweep's folder is as that version left it: one run done, the other never started."""
    text = (tmp_path / "s.yaml").read_text().replace("/rows,", f"/rows{slash},")
    write_sweep(text.replace("base: {", "base: {zero_stage: 1.0, "))
    told = {
        "variant": "finetune", "tasks": ["t"], "data_source": "folder", "data_dir": f"{tmp_path}/rows{slash}",
        "task_file": f"{tmp_path}/t.yaml", "loss_reduction": "sum", "zero_stage": 1.0,
    }  # fmt: skip
    old = {seed: former_signature(**told, seed=seed) for seed in (1, 2)}
    runs = {
        one: {"name": f"finetune-seed{seed}", "folder": f"finetune-seed{seed}-{one}", "variant": "finetune"}
        for seed, one in old.items()
    }
    folder = tmp_path / "runs/s" / f"finetune-seed1-{old[1]}"
    folder.mkdir(parents=True)
    (tmp_path / "runs/s/plan.json").write_text(
        json.dumps({"schema": 1, "name": "s", "source": str(tmp_path / "s.yaml"), "runs": runs})
    )
    for _ in range(2):  # also after this version wrote its own plan
        ledger = with_rows()
        assert [run.signature for run in ledger.plan.runs] == [old[1], old[2]]
        assert ledger.folder(ledger.plan.runs[0]) == folder
        assert any(
            note.startswith("2 runs are of a version that did not record") for note in ledger.plan.notes
        )
        ledger.commit()
    # Since the first of these submits it is known what the files held.
    (tmp_path / "rows/t/train.csv").write_text(ROWS.replace("yes", "no"))
    changed = with_rows().plan
    assert not {run.signature for run in changed.runs} & set(old.values()) and not changed.notes
    (tmp_path / "rows/t/train.csv").write_text(ROWS)
    # What a job is given, and what its folder says afterwards, is the run under its own signature.
    run = ledger.plan.runs[1]
    queued = QueuedRun.of(run, "f", 1)
    config = queued.config(tmp_path / "f")
    RunFolder(tmp_path / "f").claim(identify(config, None, 1))
    assert signature(RunFolder(tmp_path / "f").read_config()) == signature(config) == old[2]
