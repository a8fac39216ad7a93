"""Arbitrary sweep files, configs, profiles and ledgers: an answer or one clear error, never a traceback.

Deterministic: the same examples each time.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweep_command import REPOSITORY, result_of

from hyperformer.data.tasks.user_tasks import load_user_tasks
from hyperformer.errors import HyperformerError
from hyperformer.files import write_json
from hyperformer.settings.config_files import load_config
from launchers import sweep
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.store import processes, submissions
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedRun, Submission

QUICK = settings(
    derandomize=True, deadline=None, max_examples=120, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from(["", "rte", "../x", "-1", "1e400", "${HOME}", "${NOPE}", "a\nb", "\0", "nan", "*", "[", 10**30])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip

SWEEP = {
    "name": "s", "base": {"seed": 3, "learning_rate": 1e-3, "data_source": "toy"},
    "variants": ["hyperformer", "adapters"], "tasks": ["rte", "cola"], "grid": {"n_train": [1, 2]},
    "zip": {"max_steps": [1, 2], "n_val": [3, 4]}, "overrides": {"adapters": {"reduction_factor": [8, 16]}},
    "exclude": [{"seed": 9}], "resources": {"time": 5, "max_parallel": 2, "variants": {"adapters": {"nodes": 2}},
                                            "runs": {"*x*": {"mem_gb": 3}}},
}  # fmt: skip
PROFILE = {
    "description": "d", "max_parallel": 3, "confirm_above": 4.5, "offline": True, "python": "python3",
    "environment": {"A": "b", "HF_TOKEN": "x"},
    "resources": {"partition": "p", "account": "a", "qos": "q", "nodes": 1, "gpus_per_node": 1, "time": "1:00:00",
                  "cpus_per_task": 2, "mem_gb": 3, "constraint": "c", "exclude": "n[1-2]", "mail": "a@b",
                  "sbatch": {"hint": "x", "exclusive": True}, "srun": ["--x"], "setup": ["true"], "pack": 1},
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without SLURM; files of one example are gone before the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    yield tmp_path


def clean(*words: str) -> tuple[int, str]:
    """Run a command: it must end with a code of ours, and say why where it fails."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = sweep.main(words)  # an exception of another kind comes through
    text = out.getvalue() + err.getvalue()
    assert code in (0, 1, 2) and "Traceback" not in text
    assert (code == 2) == ("error: " in err.getvalue()), text
    text.encode()  # it can be printed
    return code, text


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """`whole` with one to three values replaced, or left out, or with a key more."""
    whole = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(whole)))
        if not path:
            continue
        holder = whole
        for key in path[:-1]:
            holder = holder[key]
        how = draw(st.sampled_from(["value", "value", "drop", "more"]))
        if how == "drop":
            del holder[path[-1]]
        elif how == "more" and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(values)
        else:
            holder[path[-1]] = draw(values)
    return whole


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> bytes:
    """A file after a disk had its way with it: cut short, or some bytes replaced."""
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.binary(max_size=8)) + (text[at + 3 :] if draw(st.booleans()) else b"")


@QUICK
@given(data=st.data())
def test_sweep_files(here: Path, data: st.DataObject) -> None:
    text = yaml.safe_dump(data.draw(changed(SWEEP)), allow_unicode=True).encode(errors="replace")
    if data.draw(st.booleans()):
        text = data.draw(cut(text))
    (here / "s.yaml").write_bytes(text)
    clean("plan", "s.yaml")
    clean("submit", "s.yaml", "-n", "--cluster", "local")
    assert {entry.name for entry in here.iterdir()} == {"s.yaml"}


@QUICK
@given(data=st.data())
def test_profiles(here: Path, data: st.DataObject) -> None:
    (here / "s.yaml").write_text("{variants: [hyperformer], tasks: [rte], base: {data_source: toy}}")
    text = yaml.safe_dump(data.draw(changed(PROFILE)), allow_unicode=True).encode(errors="replace")
    if data.draw(st.booleans()):
        text = data.draw(cut(text))
    (here / "c.yaml").write_bytes(text)
    clean("submit", "s.yaml", "-n", "--cluster", "c.yaml")
    assert {entry.name for entry in here.iterdir()} == {"s.yaml", "c.yaml"}


CONFIGS = [json.loads(path.read_text()) for path in sorted(
    (Path(__file__).parents[2] / "hyperformer/configs").glob("*.json"))]  # fmt: skip


@QUICK
@given(data=st.data())
def test_configs(here: Path, data: st.DataObject) -> None:
    text = json.dumps(data.draw(changed(data.draw(st.sampled_from(CONFIGS))))).encode(errors="replace")
    if data.draw(st.booleans()):
        text = data.draw(cut(text))
    (here / "x.json").write_bytes(text)
    with contextlib.suppress(HyperformerError):
        load_config("x.json")
    (here / "s.yaml").write_text("{config: x.json, tasks: [rte]}")
    clean("plan", "s.yaml")


@QUICK
@given(
    text=st.text(max_size=30),
    key=st.sampled_from(["seed", "tasks", "learning_rate", "dropout", "do_eval", "x"]),
)
def test_overrides(text: str, key: str) -> None:
    for override in (text, f"{key}={text}"):
        with contextlib.suppress(HyperformerError):
            load_config("adapters", [override])


TASK = {"t": {"template": "x {text}", "target": "y", "labels": ["1", "2"], "metrics": ["accuracy"],
              "hub": {"path": "a/b"}, "splits": {"train": "train", "validation": "dev"}}}  # fmt: skip


@QUICK
@given(data=st.data())
def test_task_files(here: Path, data: st.DataObject) -> None:
    text = yaml.safe_dump(data.draw(changed(TASK)), allow_unicode=True).encode(errors="replace")
    (here / "t.yaml").write_bytes(data.draw(cut(text)) if data.draw(st.booleans()) else text)
    with contextlib.suppress(HyperformerError):
        load_user_tasks("t.yaml")


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)  # fmt: skip
IN_LITTLE_MEMORY = """
import resource, sys
from hyperformer.data.tasks.user_tasks import load_user_tasks
from hyperformer.errors import HyperformerError
from hyperformer.settings.config_files import load_config
from launchers.plan.cluster_profile import NO_PROFILE, read_profile
from launchers.plan.load_plan import load_plan
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for read in (lambda name: load_plan(name, NO_PROFILE), load_user_tasks, lambda name: read_profile(Path(name)),
             load_config, lambda name: load_config("adapters", ["seed=" + Path(name).read_text()])):
    try:
        read(sys.argv[1])
    except HyperformerError as error:
        assert len(str(error)) < 2000, len(str(error))
        print(error)
"""


@pytest.mark.parametrize(
    "text",
    [LAUGHS, "a: &a [*a]", "[" * 50_000, "{a: " * 50_000, "a: 1\na: 2", "x: " + "9" * 10_000,
     "!!python/object:os.system x",
     "d: 2001-99-99", "? [a]\n: b", "grid: {" + ", ".join(f"k{n}: [{'1, ' * 9}1]" for n in range(30)) + "}",
     "{variants: [adapters], tasks: [rte], grid: {seed: [" + "1, " * 5000 + "1], n_val: [" + "1, " * 5000 + "1]}}"],
    ids=range(11),
)  # fmt: skip
def test_bombs(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    done = subprocess.run([sys.executable, "-c", IN_LITTLE_MEMORY, "x.yaml"], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) >= 5


@settings(QUICK, max_examples=60)  # each reads a whole folder
@given(data=st.data())
def test_ledgers(here: Path, data: st.DataObject) -> None:
    folder = here / "one"
    folder.mkdir()
    try:
        os.chdir(folder)
        make_ledger(folder)
        files = sorted(path for path in (folder / "runs").rglob("*") if path.is_file())
        for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)):
            how = data.draw(st.sampled_from(["cut", "values", "values", "gone", "folder"]))
            if how == "cut" or path.suffix != ".json":
                path.write_bytes(data.draw(cut(path.read_bytes())))
            elif how == "values":
                path.write_text(
                    json.dumps(data.draw(changed(json.loads(path.read_text())))), errors="replace"
                )
            else:
                path.unlink()
                if how == "folder":
                    path.mkdir()
        for command in (
            "status",
            "why",
            "report",
            "plan",
            "retry -n",
            "cancel -n",
            "logs *",
            "status --json",
            "cancel -y",
        ):
            words = command.split()
            clean(words[0], "s.yaml", *words[1:])
        assert not list((folder / "runs").rglob(".*.tmp"))
    finally:
        os.chdir(here)
        shutil.rmtree(folder)


def make_ledger(folder: Path) -> None:
    """Two runs that were on this machine (done, cancelled), and two on SLURM. Each time the same bytes."""
    (folder / "s.yaml").write_text(
        "{variants: [hyperformer], tasks: [rte, cola], grid: {seed: [1, 2, 3, 4]}}"
    )
    ledger = Ledger(load_plan("s.yaml", NO_PROFILE), folder / "runs")
    ledger.commit()
    gone = {**processes.this_process(), "pid": 2**22 + 1, "born": "1"}
    for run in ledger.plan.runs[:3]:
        attempt = ledger.new_attempt(run)
        job = {"cluster": "local", "job_id": "1", "started": 1.0, **gone}
        write_json(attempt.job_file, {**job, "gpu": "0", "submitted": 1.0})
        write_json(attempt.started_file, job)
        outcome = {
            "status": "failed",
            "error_type": "E",
            "message": "m",
            "traceback_tail": ["a", "b"],
            "rank": 0,
        }
        write_json(attempt.outcome_file, {**outcome, "ended": 2.0})
        attempt.logs[1].write_text("word\n")
        state = {
            "phase": "failed",
            "step": 1,
            "max_steps": 3,
            "loss": 0.5,
            "best_metric": 3.0,
            "seconds_left": 2.0,
        }
        write_json(ledger.folder(run) / "state.json", state)
    write_json(ledger.folder(ledger.plan.runs[0]) / "result.json", result_of(ledger.plan.runs[0]))
    write_json(ledger.folder(ledger.plan.runs[1]) / "cancelled.json", {"at": 1.0})
    entries = [[QueuedRun.of(run, ledger.folder(run).name, 2)] for run in ledger.plan.runs[2:]]
    submissions.write(
        ledger.paths,
        Submission(1, ledger.job_name(1), "slurm", 1.0, "/code", entries, job_id="7", shape={"time": 5}),
    )
    write_json(
        ledger.path / "last_known.json",
        {"at": 1.0, "jobs": {"7_0": {"state": "RUNNING", "node": "n", "elapsed": 3.0}}},
    )
    (ledger.path / ".lock").write_text(json.dumps({**gone, "since": 1.0, "user": "me"}))
