"""The Python API does what the command line does; the jobs train with the fake run."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from sweep_command import TOY, CommandLine, result_of

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.settings import extras
from launchers import sweep as command_line_of_sweeps
from launchers.api import StartOptions, Sweep
from launchers.submit.preflight import PreflightError

WriteSweep = Callable[[str], Path]
TWO = f"{{base: {TOY}, variants: [hyperformer++], tasks: [toy-sentiment], grid: {{seed: [1, 2]}}}}"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine) -> Path:
    """The sweep's folder is the working directory, and jobs train with the fake run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", command_line.environment["PYTHONPATH"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


def test_a_sweep_on_this_machine(in_folder: Path, write_sweep: WriteSweep) -> None:
    write_sweep(TWO)
    sweep = Sweep.load("s.yaml", cluster="local")
    found = sweep.dry_run()
    assert [run.name for run in found.todo] == ["hyperformer++-seed1", "hyperformer++-seed2"]
    assert found.texts == [] and not (in_folder / "runs").exists()
    result = sweep.submit()
    assert result.started == ["hyperformer++-seed1", "hyperformer++-seed2"] and result.job_ids == []
    assert [status.state for status in sweep.statuses()] == ["done", "done"]
    (row,) = (row for row in records(sweep.results()) if row["split"] == "test")
    assert row["variant"] == "hyperformer++" and row["runs_done"] == row["runs_planned"] == 2
    assert row["toy-sentiment acc n"] == 2 and row["Avg over columns"] == pytest.approx(51.5)
    assert sweep.submit().started == sweep.retry().started == []
    # As last time, where no cluster is named.
    assert Sweep.load("s.yaml").plan.profile.is_local


@pytest.mark.parametrize("most", [0, -1, "2", 1.5, True])
def test_how_many_at_once_is_a_whole_number(most: object) -> None:
    with pytest.raises(HyperformerError, match="max_parallel must be a whole number of at least 1, not "):
        StartOptions(max_parallel=most)  # type: ignore[arg-type]


LOOKS = [
    "plan",
    "status",
    "status --json",
    "why",
    "report",
    "report --plots",
    "logs *",
    "cancel -y",
    "retry -y",
]


@pytest.mark.parametrize("command", LOOKS)
def test_who_only_looks_writes_nothing(
    in_folder: Path, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_sweep(TWO)
    first, *rest = command.split()
    assert command_line_of_sweeps.main([first, "s.yaml", *rest]) == 0
    assert [path.name for path in in_folder.iterdir()] == ["s.yaml"]
    if first == "report":
        assert "nothing was started yet" in capsys.readouterr().out
    with pytest.raises(HyperformerError, match="nothing was started yet"):
        Sweep.load("s.yaml").report()


def test_the_folder_of_sweeps(
    in_folder: Path,
    write_sweep: WriteSweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_sweep(TWO)
    monkeypatch.setenv("HOME", str(in_folder / "home"))
    assert Sweep.load("s.yaml", runs_dir="~/x").ledger.path == in_folder / "home/x/s"
    for wrong in ("s.yaml", "s.yaml/x", "~nobody-of-that-name/x"):
        with pytest.raises(ConfigError, match=f"runs_dir {wrong}: "):
            Sweep.load("s.yaml", runs_dir=wrong)
    assert command_line_of_sweeps.main(["status", "s.yaml", "--runs-dir", "s.yaml"]) == 2
    assert "s.yaml is not a folder" in capsys.readouterr().err


def test_status_takes_a_selection(
    in_folder: Path, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(TWO)
    assert command_line_of_sweeps.main(["status", "s.yaml", "--json", "seed=2"]) == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["hyperformer++-seed2"]


def records(frame: object) -> list[dict[str, object]]:
    return frame if isinstance(frame, list) else frame.to_dict("records")  # type: ignore[attr-defined]


def test_results_without_pandas(
    in_folder: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    write_sweep(TWO)
    results = Sweep.load("s.yaml", cluster="local").results()
    assert (
        isinstance(results, list) and results[0]["Avg over columns"] is None and results[0]["runs_done"] == 0
    )


def test_cancel_reaches_runs_that_wait_in_a_local_queue(
    in_folder: Path, write_sweep: WriteSweep, command_line: CommandLine
) -> None:
    slow = TOY.replace("max_steps: 3", "max_steps: 100").replace("0.01", "0.3")
    write_sweep(TWO.replace(TOY, slow))
    process = command_line.start("s.yaml", "--cluster", "local", "--max-parallel", "1")
    end = time.monotonic() + 300
    while not list(in_folder.glob("runs/s/*/attempts/1/started.json")):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert sorted(Sweep.load("s.yaml").cancel()) == ["hyperformer++-seed1", "hyperformer++-seed2"]
    out, _ = process.communicate(timeout=300)
    assert {status.state for status in Sweep.load("s.yaml").statuses()} == {"cancelled"}, out


@pytest.fixture(params=["local", "slurm"])
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both back ends; no SLURM answers here, so a dry run tells what does not depend on it."""
    yield request.param


def test_preflight_is_the_same_for_every_back_end(
    in_folder: Path, write_sweep: WriteSweep, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at the runs that are to start, at the disk, quotas, data and files."""
    monkeypatch.setenv("PATH", f"{in_folder}/bin:/usr/bin:/bin")
    for name in ("a", "b"):
        (in_folder / "data" / name / "rte").mkdir(parents=True)
    write_sweep(
        "{base: {data_source: folder, model_name_or_path: toy}, variants: [finetune], tasks: [rte], "
        f"grid: {{data_dir: [{in_folder}/data/a, {in_folder}/data/b]}}}}"
    )
    sweep = Sweep.load("s.yaml", cluster=cluster)
    assert len(sweep.dry_run().todo) == 2
    shutil.rmtree(in_folder / "data" / "a")
    sweep = Sweep.load("s.yaml", cluster=cluster)
    with pytest.raises(PreflightError, match=r"data/a: there is no such folder \[data\]"):
        sweep.dry_run()

    # A removed data folder does not stop a sweep whose run on it has ended.
    run = sweep.plan.runs[0]
    folder = sweep.ledger.folder(run)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result_of(run)))
    sweep = Sweep.load("s.yaml", cluster=cluster)
    assert [run.name for run in sweep.dry_run().todo] == [sweep.plan.runs[1].name]

    # A quota that leaves no room stops every back end, and can be ignored by its name.
    (in_folder / "bin").mkdir()
    quota = in_folder / "bin" / "quota"
    figures = "999 0 1000 0 1 0 0 0"
    quota.write_text(
        f"#!/bin/sh\necho 'Disk quotas for user me (uid '$(id -u)'):'\necho '/dev/x {figures}'\n"
    )
    quota.chmod(0o755)
    with pytest.raises(PreflightError, match=r"your quota leaves 0 MB .*\[disk\]\n.*--ignore disk"):
        sweep.dry_run()
    notes = sweep.dry_run(options=StartOptions(ignored=frozenset({"disk"}))).notes
    assert any(note.startswith("ignored: ") and "your quota" in note for note in notes)


def test_a_package_that_a_method_needs_is_missed_before_anything_starts(
    in_folder: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", version)
    write_sweep(f"{{base: {TOY}, variants: [finetune, lora, ia3], tasks: [toy-sentiment]}}")
    sweep = Sweep.load("s.yaml", cluster="local")
    told = r"adapter is lora: .*pip install 'hyperformer\[peft\]'.* \[packages\]\n- adapter is ia3: "
    with pytest.raises(PreflightError, match=told):
        sweep.submit()
    assert not (in_folder / "runs").exists()
    assert len(sweep.dry_run(options=StartOptions(ignored=frozenset({"packages"}))).todo) == 3


def test_what_is_ignored_must_be_a_finding(
    in_folder: Path, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(TWO)
    assert command_line_of_sweeps.main(["s.yaml", "-n", "--ignore", "qso"]) == 2
    assert "no finding has that name; did you mean 'qos'?" in capsys.readouterr().err


def test_an_ignored_finding_starts_the_runs(
    in_folder: Path, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(TWO.replace("model_name_or_path: toy", "model_name_or_path: toy, tokenizer_name: ./gone"))
    assert command_line_of_sweeps.main(["s.yaml", "--cluster", "local"]) == 2
    assert not (in_folder / "runs").exists()
    assert command_line_of_sweeps.main(["s.yaml", "--cluster", "local", "--no-preflight"]) == 0
    assert f"note: ignored: tokenizer_name {Path.cwd()}/gone" in capsys.readouterr().err


def test_a_profile_that_is_gone_stops_only_what_starts_runs(
    in_folder: Path, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(TWO)
    (in_folder / "site.yaml").write_text("resources: {time: 5}")
    sweep = Sweep.load("s.yaml", cluster="site.yaml")
    sweep.ledger.commit(sweep.plan.profile.cluster_argument)
    (in_folder / "site.yaml").unlink()
    assert command_line_of_sweeps.main(["status", "s.yaml"]) == 0
    capsys.readouterr()
    assert command_line_of_sweeps.main(["submit", "s.yaml"]) == 2
    assert "site.yaml: no such profile" in capsys.readouterr().err


def test_a_name_that_no_record_can_hold(in_folder: Path, write_sweep: WriteSweep) -> None:
    """Bytes that are no UTF-8: JSON has no place for them."""
    path = write_sweep(TWO)
    with pytest.raises(ConfigError, match=r"runs_dir .*no UTF-8.*rename it"):
        Sweep.load("s.yaml", "runs\udcff", cluster="local")
    other = path.with_name("s\udcff.yaml")
    path.rename(other)
    with pytest.raises(ConfigError, match=r"the sweep file .*no UTF-8"):
        Sweep.load(str(other), cluster="local")
