"""How a run's process is started: forked from the preloaded process, it is what a fresh one would be."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sweep_command import REPOSITORY

from hyperformer.run import run
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config
from launchers.job.preload import command
from launchers.job.run_process import RunProcess, RunStarter
from launchers.store.attempts import Attempt

TOY = {
    "variant": "custom", "model_name_or_path": "toy", "data_source": "toy", "tasks": ["toy-sentiment"],
    "max_steps": 2, "eval_steps": 2, "save_steps": 2, "logging_steps": 1, "warmup_steps": 0,
    "per_device_train_batch_size": 4, "n_train": 16, "n_val": 4, "n_test": 4,
}  # fmt: skip
FAKE = f"{REPOSITORY}/tests/launchers/fake_run:{REPOSITORY}"


def make_run(folder: Path, **settings: Any) -> Attempt:
    """The first attempt at a run."""
    attempt = Attempt.of(folder, 1)
    attempt.folder.mkdir(parents=True)
    config = make_config({**TOY, "cache_dir": str(folder.parent), **settings, "output_dir": str(folder)})
    RunFolder(folder).claim(config)
    return attempt


def start(starter: RunStarter, attempt: Attempt, gpu: str = "") -> RunProcess:
    return starter.start(["--local", str(attempt.folder)], gpu, attempt.logs)


def wait_for(what: Callable[[], Any]) -> None:
    while not what():
        time.sleep(0.02)


def end_of(process: RunProcess) -> int | None:
    wait_for(lambda: process.poll() is not None)
    return process.returncode


def steps(attempt: Attempt) -> int:
    path = attempt.run_folder / "checkpoints" / "step"
    return int(path.read_text() or "0") if path.exists() else 0


def status(attempt: Attempt) -> str:
    outcome = attempt.read_outcome()
    return outcome.status if outcome else ""


def hashes(folder: Path) -> dict[Path, str]:
    """SHA-256 of a run's weights and answers."""
    found = [*folder.glob("answers/*"), *folder.glob("adapter/*.safetensors")]
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def starter() -> Iterator[RunStarter]:
    """Starts runs that train nothing."""
    variables = {"PYTHONPATH": FAKE, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3"}
    made = RunStarter(variables, 9, own_sessions=True)
    yield made
    made.close()


def test_each_process_is_the_runs_own(starter: RunStarter, tmp_path: Path) -> None:
    slow = {"max_steps": 10_000, "weight_decay": 0.02}
    first, second = (make_run(tmp_path / name, **slow) for name in ("first", "second"))
    one, other = start(starter, first), start(starter, second)
    killed, failed = (start(starter, make_run(tmp_path / f"{seed}", seed=seed)) for seed in (14, 13))
    assert (end_of(killed), end_of(failed)) == (-signal.SIGKILL, 1)
    assert "DataError: row 7 has no label" in (tmp_path / "13/attempts/1/stderr.log").read_text()

    wait_for(lambda: steps(first) and steps(second))
    assert starter._preloaded is not None
    assert first.read_started()["pid"] == one.pid and os.getsid(one.pid) == os.getpgid(one.pid) == one.pid
    words = Path(f"/proc/{one.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    assert [word.decode() for word in words] == command(["--local", str(first.folder)])
    assert Path(f"/proc/{one.pid}/cwd").resolve() == Path.cwd()
    assert "threads 3, gpus \n" in first.logs[0].read_text()

    # A signal is for one run alone; nor is the preloaded process needed while they train.
    one.send_signal(signal.SIGTERM)
    assert end_of(one) == 0 and (status(first), status(second)) == ("stopped", "")
    starter._preloaded._process.kill()
    starter._preloaded._process.wait()
    seen = steps(second)
    wait_for(lambda: steps(second) > seen)
    late = make_run(tmp_path / "late")
    assert end_of(start(starter, late)) == 0 and status(late) == "done"
    assert (
        "a process of its own, as the preloaded one is lost: it ended with exit code -9"
        in late.logs[0].read_text()
    )
    assert other.poll() is None
    os.killpg(other.pid, signal.SIGKILL)
    assert end_of(other) == -signal.SIGKILL


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
SEES_NO_GPU = (
    "import os; assert (os.environ['CUDA_VISIBLE_DEVICES'], os.environ['DS_ACCELERATOR']) == ('', 'cuda')"
)


@pytest.mark.parametrize(
    ("deepspeed", "said"),
    [
        ("raise ImportError('no libtorch')", "exit code 1, ImportError: no libtorch"),
        ("import os; os.abort()", "exit code -6"),
        (THREAD, "the libraries run threads, which a fork would lose: python"),
        (SEES_NO_GPU, None),
    ],
)
def test_runs_do_not_need_the_preloaded_process(deepspeed: str, said: str | None, tmp_path: Path) -> None:
    """It cannot be had, for a reason that does not concern the run; or it imports where no GPU can be seen."""
    (tmp_path / "deepspeed.py").write_text(deepspeed)
    text = (Path(FAKE.partition(":")[0]) / "sitecustomize.py").read_text().replace('"deepspeed", ', "")
    (tmp_path / "sitecustomize.py").write_text(text)
    variables = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "CUDA_VISIBLE_DEVICES": "5"}
    starter = RunStarter(variables, 2, own_sessions=True)
    attempt = make_run(tmp_path / "run")
    assert end_of(start(starter, attempt, "5")) == 0 and status(attempt) == "done"
    starter.close()
    log = attempt.logs[0].read_text()
    assert "gpus 5" in log and (said in log if said else "a process of its own" not in log), log


def test_a_run_that_nobody_knows_of_does_not_begin(starter: RunStarter, tmp_path: Path) -> None:
    """Whoever asked has ended before it learned of the process."""
    assert starter._preloaded is not None and starter._preloaded.is_ready(None)
    attempt = make_run(tmp_path / "run")
    channel, (go, tell) = starter._preloaded._socket, os.pipe()
    channel.recv(64)
    request = {"arguments": ["--local", str(attempt.folder)], "gpu": "", "own_session": False}
    with attempt.logs[0].open("ab") as log:
        socket.send_fds(channel, [json.dumps(request).encode()], [log.fileno(), log.fileno(), go])
    pid = int(channel.recv(64))
    os.close(tell)
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and not attempt.started_file.exists()


def test_a_forked_run_is_bit_identical(tmp_path: Path) -> None:
    """With OpenMP threads of its own, to the same run in this process."""
    variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    starter = RunStarter({**variables, "PYTHONPATH": str(REPOSITORY)}, 2, own_sessions=True)
    process = start(starter, make_run(tmp_path / "forked"))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    run(RunFolder(make_run(tmp_path / "here").run_folder).read_config())
    torch.set_num_threads(threads)
    assert end_of(process) == 0 and "lost" not in (tmp_path / "forked/attempts/1/stdout.log").read_text()
    starter.close()
    forked, here = (hashes(tmp_path / name) for name in ("forked", "here"))
    assert forked == here and {path.parent.name for path in forked} == {"answers", "adapter"}
