"""Many short runs quickly: a process imports everything once, and forks one for every rank of every run.

As a script it reads a JSON object a line from stdin, does that run, and answers
with one a line::

    {"folder": ..., "settings": {...}, "ranks": 2, "at": ["step", 5], "signal": 9, "log": ..., "faults": {}}
    {"codes": [-9, -9]}

``trace`` names a file for the times of what rank 0 does; it is ``slow`` to load by so many seconds a split.
``faults``: functions of numeric_faults.py, with their arguments.

``at`` names where rank 0 sends itself the signal: at the n-th finished "step", "batch" of
evaluation, or "write" of a checkpoint's file; or ["seconds", 0.7] from the start,
or ["seconds of training", 0.7] from where it resumes. At "hang"
there is no signal: the n-th step does not end. At "rows" there is none either: a forward of more
than n rows asks for more memory than there is. Nor at "lost": the n-th checkpoint lacks a tensor.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = {
    "variant": "custom",
    "model_name_or_path": "toy",
    "data_source": "toy",
    "tasks": ["toy-sentiment", "toy-similarity"],
    "max_steps": 8,
    "per_device_train_batch_size": 4,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "reduction_factor": 8,
    "logging_steps": 2,
    "eval_steps": 4,
    "save_steps": 3,
    "n_train": 64,
    "n_val": 8,
    "n_test": 8,
    "per_device_eval_batch_size": 2,
    "decode": "rank",
    "loss_reduction": "mean",
}

# The exit code of a run that paused.
PAUSED = 3

# What a run imports, some of it late.
IMPORTED = [
    "deepspeed",
    "datasets",
    "pandas",
    "scipy.stats",
    "sklearn.metrics",
    "peft",
    "sentencepiece",
    "torch.utils.tensorboard",
    "transformers.models.t5.modeling_t5",
    "transformers.models.t5.tokenization_t5",
    "hyperformer.run",
    "hyperformer.settings.config_files",
    "hyperformer.data.toy",
]


@dataclass
class Ended:
    """How a run ended: every rank's exit code (negative: its signal), and all that was printed."""

    codes: list[int]
    out: str


class ForkedRuns:
    """Talks to the process that forks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._number = folder, 0
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self,
        folder: Path,
        config: str = "hyperformer++",
        *,
        ranks: int = 1,
        at: tuple[str, float] | None = None,
        signal: int = signal.SIGKILL,
        deadline: float | None = None,
        pause_at: int | None = None,
        limits: dict[str, int] | None = None,
        trace: Path | None = None,
        slow: float = 0.0,
        faults: dict[str, list[Any]] | None = None,
        **settings: Any,
    ) -> Ended:
        """One run, to its end or to the signal; raises nothing for one that fails."""
        self._number += 1
        log = self.folder / f"{self._number}.log"
        order = {
            "config": config,
            "settings": {
                **SETTINGS,
                "cache_dir": str(self.folder / "cache"),
                "output_dir": str(folder),
                **settings,
            },
            "ranks": ranks,
            "at": at,
            "signal": signal,
            "log": str(log),
            "deadline": deadline,
            "pause_at": pause_at,
            "limits": limits or {},
            "trace": trace and str(trace),
            "slow": slow,
            "faults": faults or {},
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has died"
        return Ended(json.loads(answer)["codes"], log.read_text(errors="replace"))

    def whole(self, folder: Path, config: str = "hyperformer++", **settings: Any) -> Ended:
        """One run that must end well."""
        ended = self.run(folder, config, **settings)
        assert set(ended.codes) == {0}, ended.out
        return ended

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def poke(at: list[Any], number: int) -> None:
    """Have this process send itself a signal at the n-th call of something."""
    from hyperformer.training import evaluation, log
    from hyperformer.training.checkpoints import engine_state, write

    what, when = at
    if what == "rows":
        limit_rows(int(when))
        return
    timer = threading.Timer(when, os.kill, (os.getpid(), number))
    timer.daemon = True
    if what == "seconds":
        timer.start()
        return
    if what == "seconds of training":
        begin = log.RunLog.__init__

        def started(*arguments: Any, **more: Any) -> None:
            timer.start()
            begin(*arguments, **more)

        log.RunLog.__init__ = started  # type: ignore[method-assign]
        return
    owner: Any
    owner, name = {
        "step": (log.RunLog, "step_done"),
        "hang": (log.RunLog, "step_done"),
        "lost": (engine_state, "tensors"),
        "batch": (evaluation, "answer"),
        "write": (write, "write_checked"),
    }[what]
    real, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **more: Any) -> Any:
        result = real(*arguments, **more)
        calls[0] += 1
        if calls[0] == when and what == "hang":
            time.sleep(1000)
        elif calls[0] == when and what == "lost":
            return result[1:]
        elif calls[0] == when:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, counted)


def load_slowly(seconds: float) -> None:
    """Have this process take so long to load each split of a task."""
    from hyperformer.training import inputs

    real = inputs.load_tokenized

    def slow(*arguments: Any, **more: Any) -> Any:
        time.sleep(seconds)
        return real(*arguments, **more)

    inputs.load_tokenized = slow


def limit_rows(most: int) -> None:
    """Have a forward of more rows fail as where the memory is too small, in training and in evaluation."""
    import torch

    from hyperformer.adapters.model import HyperformerT5
    from hyperformer.training import evaluation

    forward, answer = HyperformerT5.forward, evaluation.answer

    def check(rows: int) -> None:
        if rows > most:
            torch.empty(1 << 60)

    @functools.wraps(forward)
    def limited_forward(self: Any, input_ids: Any = None, **more: Any) -> Any:
        check(0 if input_ids is None else len(input_ids))
        return forward(self, input_ids, **more)

    def limited_answer(model: Any, task: Any, tokenizer: Any, batch: Any, decoding: Any) -> Any:
        check(len(batch["input_ids"]))
        return answer(model, task, tokenizer, batch, decoding)

    HyperformerT5.forward, evaluation.answer = limited_forward, limited_answer  # type: ignore[method-assign]


def write_trace(path: str) -> None:
    """Have this process write down when it does what: a line with the time, a word, and a step."""
    from hyperformer.training import log
    from hyperformer.training.checkpoints import write

    stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w", buffering=1)

    def traced(owner: Any, name: str, word: Any) -> None:
        real = getattr(owner, name)

        def outer(self: Any, *arguments: Any, **more: Any) -> Any:
            print(time.time(), *word(*arguments), file=stream)
            return real(self, *arguments, **more)

        setattr(owner, name, outer)

    print(time.time(), "starting", 0, file=stream)
    traced(log.RunLog, "step_done", lambda step: ("training", step))
    traced(log.RunLog, "phase", lambda phase: (phase, 0))
    traced(write.CheckpointWriter, "run", lambda: ("saving", 0))


def one_rank(order: dict[str, Any], rank: int, port: int) -> int:
    """In the fork: the run; returns the exit code."""
    import resource

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(order["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    for name, value in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if order["trace"] and rank == 0:
        write_trace(order["trace"])
    if order["slow"] and rank == 0:
        load_slowly(order["slow"])
    for name, arguments in order["faults"].items():
        getattr(importlib.import_module("numeric_faults"), name)(*arguments)
    if order["at"] and rank == 0:
        poke(order["at"], order["signal"])
    from hyperformer.errors import HyperformerError, Interrupted, Paused
    from hyperformer.run import run
    from hyperformer.settings.build import replace
    from hyperformer.settings.config_files import load_config
    from hyperformer.settings.values import settings
    from hyperformer.training import signals

    # These runs have few steps, of milliseconds.
    signals._AGREE_STEPS = 2
    try:
        config, options = load_config(order["config"]), order["settings"]
        kind = {"adapter": options.get("adapter", config.adapter.adapter)}
        config = replace(
            config, **{key: value for key, value in options.items() if settings()[key].is_used(kind)}
        )
        run(config, deadline=order["deadline"], pause_at=order["pause_at"])
    except Interrupted as error:
        print(error)
        return 128 + error.signal
    except Paused as error:
        print(error)
        return PAUSED
    except HyperformerError as error:
        print(f"error: {type(error).__name__}: {error}")
        return 2
    return 0


def serve() -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Imported here, once; torch computes nothing, so that no thread is lost in a fork.
    for name in IMPORTED:
        if name != "peft" or importlib.util.find_spec(name):  # it is an extra
            importlib.import_module(name)
    toy: Any = sys.modules["hyperformer.data.toy"]
    toy.toy_rows = functools.cache(toy.toy_rows)
    for task in SETTINGS["tasks"]:
        for split in ("train", "validation", "test"):
            toy.toy_rows(task, split)
    for line in sys.stdin:
        order = json.loads(line)
        port = sys.modules["hyperformer.training.ranks.rendezvous"].free_port()
        children = []
        for rank in range(order["ranks"]):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = one_rank(order, rank, port)
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            children.append(child)
        print(json.dumps({"codes": _wait(children)}), file=answers, flush=True)


def _wait(children: list[int]) -> list[int]:
    """Exit codes; when one rank has died the others, who wait for it, are ended a little later."""
    codes: dict[int, int] = {}
    died = None
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    codes[child] = os.waitstatus_to_exitcode(status)
                    died = died or (time.monotonic() if codes[child] else None)
                elif died and time.monotonic() - died > 10:
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[child] for child in children]


if __name__ == "__main__":
    serve()
