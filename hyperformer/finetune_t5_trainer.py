"""The entry that the scripts, ``deepspeed``, torchrun and srun start.

::

    deepspeed hyperformer/finetune_t5_trainer.py configs/hyperformer++.json [key=value ...]
    python hyperformer/finetune_t5_trainer.py configs/adapters.json tasks=rte seed=2
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # For a script, Python looks for modules in the script's folder; the package is one folder up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hyperformer.errors import (
    HANG_EXIT,
    ConfigError,
    Hang,
    HyperformerError,
    Interrupted,
    RunInUse,
    describe_os_error,
)
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.checks import check_schedule
from hyperformer.settings.config_files import ConfigWarning, load_config
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.values import describe_type, settings
from hyperformer.terminal import ignore_broken_pipe, prepare_streams, print_error
from hyperformer.training.ranks.task_processes import one_per_task, run_one_after_the_other

EXIT_BAD_INPUT = 2
# sysexits.h: EX_TEMPFAIL, "the user is invited to try again later".
EXIT_IN_USE = 75
_EXIT_CODES: dict[type[HyperformerError], int] = {RunInUse: EXIT_IN_USE, Hang: HANG_EXIT}
_INDENT = 6 * " "
# How this program starts itself: the settings of one of several runs follow, as JSON.
_ONE_RUN = "--one-run"


def settings_help() -> str:
    """Every setting with its type or choices, default and meaning, for --help."""
    lines = ["settings (key=value):"]
    for name, item in settings().items():
        kind = describe_type(item.type) + (f", {item.bounds.words}" if item.bounds else "")
        lines.append(f"  {name}={_as_written(item.default)}")
        lines += textwrap.wrap(f"{item.help} [{kind}]", 98, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return "\n".join(lines)


def _as_written(value: object) -> str:
    """A value as a command line has it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a training run."""
    parser.add_argument("config", help="a config file, or the name of a shipped one (hyperformer++)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over the config's")
    parser.add_argument("--local_rank", type=int, help="set by the deepspeed launcher")


def train(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code. A config of single tasks gets a process for each."""

    def start() -> int:
        config = load_config(arguments.config, arguments.overrides)
        if not config.data.tasks:
            raise ConfigError(f"{arguments.config}: tasks is empty; write tasks=rte,cola")
        runs = one_per_task(config)
        if not any(RunFolder(one.output_dir).has_begun for one in runs):
            check_schedule(config.training)  # what an earlier version began ends as it began
        if len(runs) == 1:
            return _run(config, arguments.local_rank)
        this = [sys.executable, str(Path(__file__).resolve()), _ONE_RUN]
        commands = [[*this, json.dumps(flatten(one))] for one in runs]
        return run_one_after_the_other(commands, arguments.local_rank)

    return _exit_code(start)


def _run(config: RunConfig, local_rank: int | None = None) -> int:
    from hyperformer.run import run

    run(config, local_rank)
    return 0


def _exit_code(start: Callable[[], int]) -> int:
    """What `start` returns, or the code of its error. Errors that the user can correct come without a traceback."""
    ignore_broken_pipe()  # else `| head` ends a training
    warnings.showwarning = show_warning  # type: ignore[assignment]
    try:
        return start()
    except KeyboardInterrupt:
        print("interrupted before the training began", file=sys.stderr)
        return 128 + signal.SIGINT
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except HyperformerError as error:
        print_error(error)
        return _EXIT_CODES.get(type(error), EXIT_BAD_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        print_error(describe_os_error(error))
        return EXIT_BAD_INPUT


def show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    # Ours are for the user; those of libraries are about their own internals.
    if issubclass(category, ConfigWarning):
        print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    prepare_streams()
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) == 2 and argv[0] == _ONE_RUN:
        return _exit_code(lambda: _run(make_config(json.loads(argv[1]))))
    parser = argparse.ArgumentParser(
        description="Fine-tune T5 by one of the variants, or a config of your own.",
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return train(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
