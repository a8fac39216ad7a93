"""A config that trains single tasks: one run after the other, each in a process of its own. Imports no torch.

The end of its process frees all memory of a task, in every ZeRO stage, and the memory that
result.json tells is the task's own. Of several ranks, each starts its own process per task; these
meet at a port of the task's own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hyperformer.settings.build import init_tasks_of, replace
from hyperformer.settings.schema import RunConfig
from hyperformer.signal_handlers import signals_handled
from hyperformer.training.ranks.launch_variables import rank_variables
from hyperformer.training.ranks.rendezvous import port_of

# Signals that ask a run to stop; what started this process may send them to it alone.
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
# A run of one task mixes nothing.
_OF_SEVERAL_TASKS: dict[str, Any] = {
    "mixing": "temperature",
    "task_weights": None,
    "mixing_cap": None,
    "batching": "task",
}
_PR_SET_PDEATHSIG = 1


def one_per_task(config: RunConfig) -> list[RunConfig]:
    """The runs of a config: one, or where it trains single tasks one per task, each in a folder of its own."""
    if not config.single_task or len(config.data.tasks) < 2:
        return [config]
    return [
        replace(
            config,
            tasks=[task],
            **_OF_SEVERAL_TASKS,
            init_tasks=init_tasks_of(config.model.init_tasks, [task]),
            output_dir=str(Path(config.output_dir) / task),
        )
        for task in config.data.tasks
    ]


def run_one_after_the_other(commands: Sequence[Sequence[str]], local_rank: int | None = None) -> int:
    """Run commands until one fails, or a signal asks to stop; the command that runs gets the signal too.

    Args:
        commands: of this rank, the same on every rank.
        local_rank: what the deepspeed launcher wrote on the command line, if it did.

    Returns:
        0, or the exit code of the command that failed: 128 + the signal that ended it.

    Raises:
        ConfigError: it is not known which rank this is.
    """
    variables = rank_variables(os.environ, local_rank)
    children = _Children()
    with signals_handled(_PASSED_ON, children.pass_on):
        for number, command in enumerate(commands):
            environment = {**os.environ, **_variables_of_task(variables, number)}
            code = children.run(command, environment)
            if code:
                return code
    return 0


def _variables_of_task(variables: Mapping[str, str], number: int) -> dict[str, str]:
    """The ranks of each task meet at a port of its own, without torchrun's store, which knows the task before."""
    if variables["WORLD_SIZE"] == "1":
        return {}
    port = port_of(f"{variables['MASTER_ADDR']} {variables['MASTER_PORT']} task {number}")
    return {**variables, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


class _Children:
    """One child process at a time, and the last signal that asked to stop."""

    def __init__(self) -> None:
        self.signal = 0
        self._process: subprocess.Popen[bytes] | None = None

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """The exit code."""
        if self.signal:
            return 128 + self.signal
        self._process = subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent)
        if self.signal:  # it came while the process was started
            self._process.send_signal(self.signal)
        code = self._process.wait()
        self._process = None
        return 128 - code if code < 0 else code


def _end_with_parent() -> None:
    """In the child: a launcher that kills its rank means the training, too (Linux only)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
