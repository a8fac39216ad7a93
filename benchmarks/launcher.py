"""What the launcher costs, compared with submitit's own batches, on a small real SLURM that this starts and stops.

    python benchmarks/launcher.py                  # the tables in docs/slurm.md; needs root, slurm-wlm, munge
    python benchmarks/launcher.py --files          # without SLURM: plan, and status of runs that have ended

The jobs do nothing. Jobs whose submit is timed are held in the queue. A time is the
minimum over the rounds; the two launchers take turns. Files and bytes are those of
ended runs; the code snapshot is counted separately.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cluster")]

from slurm_cluster import SlurmCluster, why_not  # noqa: E402

from hyperformer.run_files.run_folder import RunFolder  # noqa: E402
from launchers.api import Sweep  # noqa: E402
from launchers.cli.display import tables  # noqa: E402
from launchers.cli.display.layout import console  # noqa: E402
from launchers.plan.cluster_profile import NO_PROFILE  # noqa: E402
from launchers.plan.load_plan import load_plan  # noqa: E402
from launchers.status.read_status import read_statuses  # noqa: E402
from launchers.store.done_runs.summary import sum_up  # noqa: E402
from launchers.store.ledger import Ledger  # noqa: E402
from launchers.sweep import collect_rarely  # noqa: E402

_SLURM = {"sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr"}
_FILES = {"open", "os.listdir", "os.scandir"}
_calls: list[str] = []
_opened = [0]


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FILES:
        _opened[0] += 1
    elif event == "subprocess.Popen":
        name = os.path.basename(str(arguments[0]))
        if name in _SLURM:
            _calls.append(name)


def nothing(number: int) -> int:
    return number


def sweep_file(folder: Path, runs: int, held: bool) -> Path:
    path = folder / f"s{runs}.yaml"
    path.write_text(
        "base: {model_name_or_path: toy, data_source: toy, max_steps: 1, warmup_steps: 0, weight_decay: 0.0}\n"
        "variants: [hyperformer++]\ntasks: [toy-sentiment]\n"
        f"grid: {{seed: [{', '.join(str(seed) for seed in range(100, 100 + runs))}]}}\n"
        "resources: {gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5"
        f"{', sbatch: {hold: true}' if held else ''}}}\n"
    )
    return path


def ours(
    folder: Path, runs: int, held: bool = True, clock: Callable[[], float] = time.perf_counter
) -> tuple[Ledger, float, int]:
    """Submit a plan; returns the ledger, the seconds until SLURM has answered, and the number of SLURM commands."""
    plan = load_plan(str(sweep_file(folder, runs, held)), NO_PROFILE)
    _calls.clear()
    began = clock()
    sweep = Sweep(Ledger(plan, folder / "runs"))
    assert sum(array.runs for array in sweep.submit().arrays) == runs
    return sweep.ledger, clock() - began, len(_calls)


def theirs(folder: Path, runs: int, held: bool = True) -> tuple[list[object], float, int]:
    """The same with submitit alone: a batch of functions that return their argument."""
    import submitit

    more = {"additional_parameters": {"hold": True}} if held else {}
    _calls.clear()
    began = time.perf_counter()
    executor = submitit.SlurmExecutor(folder=folder / "submitit")
    executor.update_parameters(time=5, cpus_per_task=1, mem="500MB", array_parallelism=runs, **more)
    with executor.batch():
        jobs = [executor.submit(nothing, number) for number in range(runs)]
    return list(jobs), time.perf_counter() - began, len(_calls)


def least(
    work: Callable[[], object], rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    times = []
    for _ in range(rounds):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def shown_status(ledger: Ledger) -> None:
    """What `sweep.py status` does after its imports, printing included."""
    with contextlib.redirect_stdout(io.StringIO()):
        out = console()
        statuses, _ = read_statuses(ledger, ledger.plan.runs)
        tables.print_shared(out, ledger.plan)
        tables.print_statuses(out, "runs", statuses)


def summary(folder: Path, attempt: Path) -> object:
    return sum_up(RunFolder(folder), attempt / "started.json", attempt / "job.json")


def pretend_ended(ledger: Ledger, summed_up: bool = True) -> None:
    """Give every run the files of an ended one; `summed_up`: as this version leaves them."""
    for run in ledger.plan.runs:
        folder = ledger.folder(run)
        attempt = folder / "attempts" / "1"
        attempt.mkdir(parents=True)
        for name, record in (
            ("attempts/1/started.json", {"started": 1.0, "host": "node1"}),
            (".trainer.lock", ""),
            ("config.json", {"signature": run.signature, "settings": {}}),
            ("state.json", {"phase": "done", "step": 1, "max_steps": 1, "loss": 1.0, "best_metric": 50.0}),
            (
                "result.json",
                {
                    "signature": run.signature,
                    "test": {},
                    "validation": {},
                    "validation_average": 50.0,
                    "parameters": {"total": 2, "trained": 1, "trained_percent_per_task": 50.0},
                },
            ),
        ):
            (folder / name).write_text(json.dumps(record) if record else "")
        outcome = {
            "status": "done",
            "ended": 2.0,
            **({"summary": summary(folder, attempt)} if summed_up else {}),
        }
        (attempt / "outcome.json").write_text(json.dumps(outcome))


def files_and_bytes(folder: Path) -> tuple[int, int]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    inodes = {path.stat().st_ino: path.stat().st_size for path in found}
    return len(inodes), sum(inodes.values())


def empty_queue() -> None:
    """Cancel every job, and wait until the queue is empty."""
    subprocess.run(["scancel", "--full", "--user=root"], check=True)
    drained(dict(os.environ))


def drained(environment: dict[str, str]) -> None:
    while subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True).stdout:
        time.sleep(0.5)


@contextlib.contextmanager
def running_cluster() -> Iterator[SlurmCluster]:
    with tempfile.TemporaryDirectory() as name:
        cluster = SlurmCluster(Path(name) / "slurm", max_array_size=20_000)
        try:
            cluster.start()
            os.environ |= {key: cluster.environment[key] for key in ("PATH", "SLURM_CONF")}
            yield cluster
        finally:
            cluster.stop()


def compare(runs: int, rounds: int, few: int) -> None:
    fake = str(ROOT / "tests" / "launchers" / "fake_run")
    os.environ["PYTHONPATH"] = os.pathsep.join([fake, str(ROOT), str(ROOT / "benchmarks")])
    mine: list[float] = []
    other: list[float] = []
    calls = (0, 0)
    ledger: Ledger | None = None
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            empty_queue()
            _, seconds, their_calls = theirs(folder, runs)
            other.append(seconds)
            empty_queue()  # both start with an empty queue
            ledger, seconds, mine_calls = ours(folder, runs)
            mine.append(seconds)
            calls = (mine_calls, their_calls)
        assert ledger is not None
        planned = least(lambda: load_plan(str(sweep_file(Path(name), runs, True)), NO_PROFILE))
        _calls.clear()
        shown_status(ledger)
        status_calls = len(_calls)
        status = least(lambda: shown_status(ledger))
        _calls.clear()
        began = time.perf_counter()
        jobs, _, _ = theirs(Path(name) / "polled", runs)
        _calls.clear()
        began = time.perf_counter()
        states = [job.state for job in jobs]  # type: ignore[attr-defined]
        polled, polled_calls = time.perf_counter() - began, len(_calls)
        subprocess.run(["scancel", "--full", "--user=root"], check=True)
        ended = Path(name) / "ended"
        ended.mkdir()
        ledger, _, _ = ours(ended, few, held=False)
        jobs, _, _ = theirs(ended, few, held=False)
        drained(dict(os.environ))
        statuses, _ = read_statuses(ledger, ledger.plan.runs)
        assert {entry.state for entry in statuses} == {"done"}, statuses[0]
        code = files_and_bytes(ledger.path / "code")
        all_mine, all_theirs = files_and_bytes(ledger.path), files_and_bytes(ended / "submitit")
        print(
            f"\n{runs:,} runs, minimum of {rounds} rounds{'':<18}{'this launcher':>15}{'submitit batch':>16}"
        )
        print(f"{'submit, s':<45}{min(mine):>15.3f}{min(other):>16.3f}")
        print(f"{'the plan before it (YAML, settings), s':<45}{planned:>15.2f}{'-':>16}")
        print(f"{'SLURM commands of a submit':<45}{calls[0]:>15}{calls[1]:>16}")
        told = f"{polled:.2f} ({states[0]})"
        print(f"{'status of all in the queue, s':<45}{status:>15.2f}{told:>16}")
        print(f"{'SLURM commands of a status':<45}{status_calls:>15}{polled_calls:>16}")
        print(
            f"{'files per ended run':<45}{(all_mine[0] - code[0]) / few:>15.1f}{all_theirs[0] / few:>16.1f}"
        )
        print(
            f"{'bytes per ended run':<45}{(all_mine[1] - code[1]) / few:>15,.0f}{all_theirs[1] / few:>16,.0f}"
        )
        print(f"code snapshot, once per sweep: {code[0]} files, {code[1] / 1e6:.1f} MB")


def growth(sizes: list[int]) -> None:
    """The launcher's own processor time, without that of SLURM's commands: a busy machine hardly changes it."""
    clock = time.process_time
    print(f"\n{'runs':>8}{'plan, s':>10}{'submit, s':>11}{'status in queue, s':>20}{'status ended, s':>17}")
    for runs in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = sweep_file(folder, runs, True)
            planned = least(lambda path=path: load_plan(str(path), NO_PROFILE), clock=clock)  # type: ignore[misc]
            ledger, submitted, _ = ours(folder, runs, clock=clock)
            queued = least(lambda ledger=ledger: shown_status(ledger), clock=clock)  # type: ignore[misc]
            subprocess.run(["scancel", "--full", "--user=root"], check=True)
            pretend_ended(ledger)
            ended = least(lambda ledger=ledger: shown_status(ledger), clock=clock)  # type: ignore[misc]
            print(f"{runs:>8,}{planned:>10.3f}{submitted:>11.2f}{queued:>20.3f}{ended:>17.3f}", flush=True)


def files_only(sizes: list[int]) -> None:
    """Plan, and status of runs that have ended, by processor time: the minimum of three rounds."""
    print(
        f"{'runs':>8}{'plan, s':>10}{'status, s':>11}{'opened per run':>16}{'older: status, s':>18}{'opened':>8}"
    )
    for runs in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = sweep_file(folder, runs, True)
            planned = least(lambda path=path: load_plan(str(path), NO_PROFILE), clock=time.process_time)  # type: ignore[misc]
            told = []
            for place, summed_up in (("now", True), ("older", False)):
                plan = load_plan(str(path), NO_PROFILE)
                pretend_ended(Ledger(plan, folder / place), summed_up)
                ledger = Ledger(plan, folder / place)
                seconds = least(lambda ledger=ledger: shown_status(ledger), clock=time.process_time)  # type: ignore[misc]
                _opened[0] = 0
                shown_status(ledger)
                told += [f"{seconds:.3f}", f"{_opened[0] / runs:.1f}"]
            print(
                f"{runs:>8,}{planned:>10.3f}{told[0]:>11}{told[1]:>16}{told[2]:>18}{told[3]:>8}", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--few", type=int, default=12, help="runs that are really run, to count files and bytes"
    )
    parser.add_argument("--growth", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--files", action="store_true", help="what needs no SLURM, by processor time")
    arguments = parser.parse_args()
    with collect_rarely():  # as in the command
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    if arguments.files:
        sys.addaudithook(_heard)
        files_only(arguments.growth)
        return
    reason = why_not()
    if reason:
        sys.exit(f"no SLURM can be started here: {reason}")
    import submitit  # noqa: F401  (so that no submit is charged for its import)

    sys.addaudithook(_heard)
    with running_cluster():
        compare(arguments.runs, arguments.rounds, arguments.few)
        growth(arguments.growth)


if __name__ == "__main__":
    main()
