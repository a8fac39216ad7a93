"""Runs that are done continue with more steps, in the folder that they have, where that is exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.files import write_json
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.run_lock import hold
from hyperformer.settings.build import replace
from launchers import sweep as command_line
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.status.extend_runs import extend, find_longer
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger

LedgerOf = Callable[..., Ledger]


@pytest.fixture
def ledger_of(write_sweep: Callable[[str], Path], tmp_path: Path) -> LedgerOf:
    def make(steps: int, schedule: str = "constant", more: str = "") -> Ledger:
        path = write_sweep(
            f"{{variants: [finetune], tasks: [rte, cola], grid: {{seed: [1, 2]}}, base: {{max_steps: {steps}, "
            f"lr_scheduler: {schedule}{more}}}}}"
        )
        return Ledger(load_plan(str(path), NO_PROFILE), tmp_path / "runs")

    return make


def finish(ledger: Ledger, count: int = 2, **more: str) -> None:
    """The first runs are done; `more`: what their results say besides."""
    ledger.commit("local")
    for run in ledger.plan.runs[:count]:
        folder = RunFolder(ledger.folder(run))
        folder.claim(replace(run.config, output_dir=str(folder.path)))
        (folder.checkpoints / f"step-{run.config.training.max_steps}").mkdir(parents=True)
        parameters = {"total": 1, "trained": 1, "trained_percent_per_task": 1.0}
        write_json(
            folder.result,
            {"signature": run.signature, "test": {}, "validation": {}, "parameters": parameters, **more},
        )


def test_a_finished_run_gives_its_folder_to_the_longer_one(ledger_of: LedgerOf) -> None:
    first = ledger_of(100)
    finish(first, 1)
    second = ledger_of(300)
    (one,) = find_longer(second, second.plan.runs)
    assert (one.run, one.steps, one.why_not) == (second.plan.runs[0], 100, "")
    extend(second, [one])
    folder = RunFolder(second.folder(one.run))
    assert not first.folder(first.plan.runs[0]).exists() and folder.checkpoints.is_dir()
    assert (folder.path / "result-100-steps.json").exists() and not folder.result.exists()
    assert set(second.known_runs()) == {
        first.plan.runs[1].signature,
        *(run.signature for run in second.plan.runs),
    }
    status = read_statuses(second, [one.run])[0][0]
    assert status.state == "stopped" and not status.damaged
    folder.claim(
        replace(one.run.config, output_dir=str(folder.path))
    )  # as the job does; it would refuse another run
    assert not find_longer(ledger_of(300), second.plan.runs)


@pytest.mark.parametrize(
    ("steps", "more", "found"), [(300, ", learning_rate: 1e-2", 0), (50, "", 0), (100, "", 0), (101, "", 2)]
)
def test_only_the_same_run_with_more_steps(ledger_of: LedgerOf, steps: int, more: str, found: int) -> None:
    finish(ledger_of(100))
    ledger = ledger_of(steps, more=more)
    assert len(find_longer(ledger, ledger.plan.runs)) == found


def test_another_schedule_makes_another_run(
    ledger_of: LedgerOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(ledger_of(600, "linear"))
    ledger = ledger_of(900, "linear")
    assert all(
        "depends on max_steps: it is another run" in one.why_not
        for one in find_longer(ledger, ledger.plan.runs)
    )
    words = [str(tmp_path / "s.yaml"), "--runs-dir", str(tmp_path / "runs"), "-y"]
    assert command_line.main(["extend", *words]) == 0
    out = capsys.readouterr().out
    assert "left: finetune-seed1: with lr_scheduler=linear" in out and "nothing to extend" in out


def test_the_command(ledger_of: LedgerOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(ledger_of(100), stopped_early="early_stop: stopped at step 40 of 100")
    words = [str(tmp_path / "s.yaml"), "seed=2", "--runs-dir", str(tmp_path / "runs"), "-y"]
    before = {path.name for path in (tmp_path / "runs/s").iterdir()}
    ledger_of(200)
    assert command_line.main(["extend", *words, "-n"]) == 0
    assert {path.name for path in (tmp_path / "runs/s").iterdir()} == before
    assert command_line.main(["extend", *words]) == 0
    out = capsys.readouterr().out
    same = "it will end with the same result: early_stop: stopped at step 40 of 100"
    assert (
        f"would extend finetune-seed2 from step 100 to 200; {same}" in out
        and "next: " in out
        and "submit" in out
    )
    ledger = ledger_of(200)
    assert [ledger.has_folder(run) for run in ledger.plan.runs] == [False, True]


def test_one_that_was_killed_between_its_renames_and_one_in_use(ledger_of: LedgerOf) -> None:
    first = ledger_of(100)
    finish(first)
    folders = [RunFolder(first.folder(run)) for run in first.plan.runs]
    folders[0].result.rename(folders[0].earlier_result(100))
    second = ledger_of(200)
    longer = find_longer(second, second.plan.runs)
    assert len(longer) == 2
    with hold(folders[1].path):
        extend(second, longer[:1])
        assert folders[1].result.exists()
    assert second.has_folder(longer[0].run)


def test_clean_removes_the_checkpoints_of_runs_that_are_done(
    ledger_of: LedgerOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = ledger_of(100)
    finish(ledger, 1)
    done, stopped = (RunFolder(ledger.folder(run)) for run in ledger.plan.runs[:2])
    for folder in (done, stopped):
        (folder.checkpoints / "step-100").mkdir(parents=True, exist_ok=True)
        (folder.checkpoints / "step-100/part-0.safetensors").write_bytes(bytes(3_000_000))
    (done.path / "adapter").mkdir()
    words = [str(tmp_path / "s.yaml"), "--runs-dir", str(tmp_path / "runs"), "-y"]
    assert command_line.main(["clean", *words, "-n"]) == 0
    out = capsys.readouterr().out
    assert "would remove checkpoints of finetune-seed1, 3.0 MB" in out and "finetune-seed2" not in out
    assert done.checkpoints.exists() and "next: " in out and "clean" in out.partition("next: ")[2]
    with hold(done.path):
        assert command_line.main(["clean", *words]) == 2
        assert done.checkpoints.exists()
    assert command_line.main(["clean", *words]) == 0
    assert not done.checkpoints.exists() and stopped.checkpoints.exists()
    assert done.result.exists() and done.adapter.exists()
    assert not any("removed" in path.name for path in done.path.iterdir())
    assert read_statuses(ledger, ledger.plan.runs[:1])[0][0].state == "done"
    capsys.readouterr()
    assert command_line.main(["clean", *words]) == 0 and "nothing to remove" in capsys.readouterr().out
    longer = ledger_of(300)
    (one,) = find_longer(longer, longer.plan.runs)
    assert "it has no checkpoint any more" in one.why_not and "from its first step" in one.why_not


def test_a_removal_that_was_killed_is_ended_by_the_next_one(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    for place in (folder.path, tmp_path / ".checkpoints.removed"):
        (place / "step-3").mkdir(parents=True)
        (place / "step-3/part-0.safetensors").write_bytes(bytes(100_000))
    assert 200_000 <= (folder.disk_size() or 0) < 300_000
    folder.remove()
    assert folder.disk_size() is None and not any(tmp_path.iterdir())
