"""Builds the image and uses it for real: ``make docker-test``. No part of the default tests.

Takes a Docker engine, or as root buildah, podman and runc; a base made by debootstrap where no registry
answers. pip's settings and certificates are the caller's own (`pip config list`). TORCH_INDEX chooses the
build of torch (empty: PyPI's, with CUDA), DEBIAN_MIRROR where debootstrap goes. Containers run without a
network, on a root file system that cannot be written, as a user that the image does not know.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine import Engine, EngineError, Pip, choose_engine, scratch_folder, torch_index

ROOT = Path(__file__).parents[2]
IMAGE = "hyperformer"
STRANGER = 4321  # a user id that no image has
TOY = ("model_name_or_path=toy", "data_source=toy", "tasks=toy-sentiment,toy-entailment", "max_source_length=64",
       "reduction_factor=8", "loss_reduction=mean", "learning_rate=1e-3", "logging_steps=5")  # fmt: skip
LONG = ("max_steps=100000", "eval_steps=100000", "save_steps=100000")  # a checkpoint can only be the signal's


class Checks:
    """The image, and what is asked of it; a failed check is told, and the others go on."""

    def __init__(self, engine: Engine, folder: Path, commit: str) -> None:
        self.engine = engine
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.commit = commit
        self.user = STRANGER if os.geteuid() == 0 else os.geteuid()
        self.failed: list[str] = []
        self.started: list[str] = []

    def __call__(self, check: Callable[[Checks], str | None]) -> None:
        begun = time.monotonic()
        try:
            said = check(self)
        except Exception as error:
            self.failed.append(str(check.__doc__))
            say(f"FAILED   {check.__doc__}\n{error!r:.3000}")
        else:
            say(f"ok {time.monotonic() - begun:6.1f} s  {check.__doc__}{': ' + said if said else ''}")

    def work(self, name: str) -> tuple[Path, list[str]]:
        """A folder of the caller's, and the options that mount it."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, self.user, self.user)
        return folder, ["--user", f"{self.user}:{self.user}", "-v", f"{folder}:/work"]

    def run(self, *words: str, options: list[str] | None = None, code: int = 0) -> str:
        stranger = ["--user", f"{self.user}:{self.user}"]
        done = self.engine.run(IMAGE, words, stranger if options is None else options, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{words}: code {done.returncode}, not {code}: {said[-2500:]}"
        return said

    def start(self, *words: str, options: list[str]) -> str:
        self.started.append(self.engine.start(IMAGE, words, options))
        return self.started[-1]

    def stop(self, container: str) -> tuple[int | None, float]:
        """What `docker stop` does; returns exit code and seconds."""
        begun = time.monotonic()
        self.engine.call("stop", "-t", "60", container)
        return self.engine.ended(container), time.monotonic() - begun

    def wait(self, container: str, until: Callable[[], bool], what: str) -> None:
        for _ in range(1200):
            if until():
                return
            ended = self.engine.ended(container)
            assert ended is None, f"ended with {ended} before {what}: {self.engine.logs(container)[-2500:]}"
            time.sleep(0.25)
        raise AssertionError(f"no sign of {what}: {self.engine.logs(container)[-2500:]}")


def says_how_it_is_used(checks: Checks) -> None:
    """without a command it says how it is used, and a wrong one gets a hint"""
    assert checks.run().startswith("usage: docker run")
    assert "did you mean 'sweep'" in checks.run("sweeep", code=2)


def counts_parameters(checks: Checks) -> None:
    """params, as a user that the image does not know, with nothing mounted"""
    assert "trained" in checks.run("params", "hyperformer++", "model_name_or_path=toy")


def is_healthy(checks: Checks) -> str:
    """check: torch and deepspeed load without nvcc"""
    assert "torch computes on" in checks.run("check") and "torch computes" not in checks.run(
        "check", "--quick"
    )
    return checks.run("check", "--quick").splitlines()[1]


def holds_no_more_than_it_must(checks: Checks) -> None:
    """no compiler, git, pip settings, caches, secrets or root; the commit is in the label"""
    script = """
id -u; for tool in gcc cc g++ git nvcc make; do command -v $tool; done
ls -d /etc/pip.conf /etc/pip-ca.pem /run/secrets/* /src /wheel /opt/venv/bin/pip 2>/dev/null
ls -d ~root/.cache /var/lib/apt/lists/*_* 2>/dev/null
find / -xdev \\( -name .git -o -name '*.whl' -path '*hyperformer*' \\) -not -path '/proc/*' 2>/dev/null; true"""
    found = checks.run("sh", "-c", script, options=["--user", "root"]).split()
    assert found == ["0"], found
    assert checks.run("id", "-u", options=[]).split() == ["1000"]
    about = checks.engine.call("image", "inspect", IMAGE).stdout
    assert f'"org.opencontainers.image.revision": "{checks.commit}"' in about
    assert '"Healthcheck"' in about or '"HealthCheck"' in about
    made = checks.engine.call("history", "--no-trunc", IMAGE).stdout + about
    assert not re.search(r"find-links|index-url https?://[^ ]*@|/etc/ssl", made), made


def trains(checks: Checks) -> None:
    """train, no network, read-only: the files belong to the caller, and name the commit"""
    folder, options = checks.work("train")
    steps = ("max_steps=20", "warmup_steps=0", "eval_steps=20", "n_train=64", "n_val=32", "n_test=32")
    checks.run("train", "configs/hyperformer++.json", *TOY, *steps, options=options)
    result = json.loads((folder / "outputs/hyperformer++/result.json").read_text())
    assert result["git_commit"] == checks.commit
    assert {path.name for path in folder.iterdir()} == {"outputs"}
    strangers = [path for path in folder.rglob("*") if path.stat().st_uid != checks.user]
    assert not strangers, strangers


def _saves_on_stop(checks: Checks, name: str, start: tuple[str, ...], code: int | None) -> str:
    folder, options = checks.work(name)
    container = checks.start(*start, *TOY, *LONG, options=options)
    log = folder / "outputs/hyperformer++/metrics.jsonl"
    checks.wait(container, log.exists, "the first steps")
    ended, seconds = checks.stop(container)
    assert ended == code if code is not None else ended not in (0, 137), checks.engine.logs(container)[-2500:]
    saved = [path.name for path in (folder / "outputs/hyperformer++/checkpoints").iterdir()]
    assert saved, "no checkpoint"
    again = checks.start(*start, *TOY, *LONG, options=options)
    checks.wait(again, lambda: "resuming from step" in checks.engine.logs(again), "the run that goes on")
    checks.stop(again)
    return f"exit code {ended} after {seconds:.1f} s"


def a_stopped_training_goes_on(checks: Checks) -> str:
    """docker stop lets train save, and the same command goes on"""
    return _saves_on_stop(checks, "stop", ("train", "hyperformer++"), 128 + signal.SIGTERM)


def two_ranks_stop(checks: Checks) -> str:
    """docker stop reaches both ranks below torchrun, as `train` starts it on several GPUs"""
    ranks = ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "hyperformer.finetune_t5_trainer")
    return _saves_on_stop(checks, "ranks", (*ranks, "hyperformer++"), None)


def a_stopped_sweep_goes_on(checks: Checks) -> str:
    """sweep: docker stop saves its runs; after docker kill another container takes over; no zombies"""
    folder, options = checks.work("sweep")
    (folder / "two.yaml").write_text(
        "base: {model_name_or_path: toy, data_source: toy, max_source_length: 64, max_steps: 400, eval_steps: 400, "
        "warmup_steps: 50, save_steps: 100, logging_steps: 5, loss_reduction: mean}\n"
        "variants: [adapters_dagger, hyperformer++]\ntasks: [toy-sentiment, toy-entailment]\n"
    )
    runs = folder / "runs/two"

    def going() -> list[str]:
        states = [json.loads(path.read_text()) for path in runs.glob("*/state.json")]
        return [state["phase"] for state in states if state["phase"] == "training" and state["step"]]

    first = checks.start("sweep", "two.yaml", options=options)
    checks.wait(first, lambda: bool(going()), "a run that trains")
    inside = checks.engine.call("exec", first, "hyperformer-container", "sweep", "status", "two.yaml").stdout
    assert "running" in inside, inside
    zombies = "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"
    assert checks.engine.call("exec", first, "sh", "-c", zombies).stdout.strip() == "0"
    ended, seconds = checks.stop(first)
    log = checks.engine.logs(first)
    assert ended == 130 and "to go on from where the runs saved" in log, f"{ended}: {log[-2500:]}"
    assert not going() and list(runs.glob("*/checkpoints/*")), "no run saved"
    killed = checks.start("sweep", "two.yaml", options=options)
    checks.wait(killed, lambda: bool(going()), "a run that trains again")
    checks.engine.call("kill", killed)
    said = checks.run("sweep", "two.yaml", options=options)
    assert len(list(runs.glob("*/result.json"))) == 2 and "Avg" in said, said[-2500:]
    return f"exit code {ended} after {seconds:.1f} s"


def runs_the_demo(checks: Checks) -> str:
    """the demo sweep, to its table"""
    folder, options = checks.work("demo")
    begun = time.monotonic()
    said = checks.run("sweep", "sweeps/demo.yaml", options=options)
    seconds = time.monotonic() - begun
    results = list((folder / "runs/demo").glob("*/result.json"))
    assert len(results) == 11 and "finetune_single_task" in said, said[-2500:]
    assert all(path.stat().st_uid == checks.user for path in folder.rglob("*"))
    say(said[said.index("variant ") :] if "variant " in said else said[-2500:])
    return f"{len(results)} runs in {seconds:.0f} s"


QUICK = (says_how_it_is_used, counts_parameters, is_healthy, holds_no_more_than_it_must, trains,
         a_stopped_training_goes_on, two_ranks_stop, a_stopped_sweep_goes_on)  # fmt: skip


def build(engine: Engine, folder: Path, commit: str) -> None:
    """Build from a copy of the working tree, then again after a change of the code, and once more."""
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, context / name)
    arguments = {"COMMIT": commit, "TORCH_INDEX": torch_index()}
    pip = Pip()
    touched = context / "hyperformer/run.py"
    before = touched.read_text()
    for what in (
        "build",
        "build, nothing changed",
        "build after a change of the code",
        "build of the code as it is",
    ):
        if "change of" in what:
            touched.write_text(before + f"# {time.time()}\n")
        elif "as it is" in what:
            touched.write_text(before)
        begun = time.monotonic()
        engine.build(context, IMAGE, arguments, pip)
        say(f"   {time.monotonic() - begun:6.1f} s  {what}")
    layers = engine.layers(IMAGE)
    for size, made in layers:
        say(f"{size / 1e6:9.1f} MB  {made.removeprefix('/bin/sh -c ').removeprefix('#(nop) ')[:90]}")
    say(f"{sum(size for size, _ in layers) / 1e6:9.1f} MB  in all")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep base, layers and image for next time"
    )
    parser.add_argument(
        "--no-demo", action="store_true", help="leave out the demo sweep, which takes minutes"
    )
    arguments = parser.parse_args()
    folder = scratch_folder(arguments.keep)
    checks: Checks | None = None
    engine: Engine | None = None
    try:
        engine = choose_engine(folder)
        say(f"engine: {engine.name}")
        for note in engine.prepare():
            say(note)
        commit = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        checks = Checks(engine, folder / "work", commit.stdout.strip())
        build(engine, folder, checks.commit)
        for check in (*QUICK, *(() if arguments.no_demo else (runs_the_demo,))):
            checks(check)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        # End what was started, and leave no gigabytes behind.
        for container in checks.started if checks else ():
            checks.engine.call("rm", "-f", container, check=False)
        shutil.rmtree(folder / "work", ignore_errors=True)
        if not arguments.keep:
            if engine:
                engine.remove(IMAGE)
            shutil.rmtree(folder)
    say(f"{len(checks.failed)} checks failed" if checks.failed else "all well")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
