"""The command line of sweeps: ``python launchers/sweep.py sweeps/X.yaml``, or ``hyperformer-sweep``."""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: this folder's parent is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hyperformer.terminal import (
    ignore_broken_pipe,
    prepare_streams,
    print_error,
    print_no_more,
    quiet_interrupts,
)

quiet_interrupts()

import argparse
import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hyperformer.errors import HyperformerError, describe_os_error
from hyperformer.settings.config_files import ConfigWarning
from launchers.cli import bundle_commands, stage_commands
from launchers.cli import inspect_commands as inspect
from launchers.cli import start_commands as start
from launchers.cli.output import BAD_INPUT, DONE, INTERRUPTED, Target, print_notes
from launchers.cli.parser import parse
from launchers.cli.start_commands import StartCommand
from launchers.cli.suggested_command import same_command
from launchers.store import redaction
from launchers.submit.preflight import ALL
from launchers.submit.start import StartOptions
from launchers.submit.start_rule import retry_rule


def run(words: argparse.Namespace) -> int:
    """Run one command; returns the exit code."""
    if words.command == "clusters":
        if words.action == "init":
            return inspect.init_profile(words.name or "site")
        return inspect.list_clusters(words.name)
    if words.command == "compare":
        targets = [Target(name, words.runs_dir) for name in (words.sweep, *words.others)]
        return inspect.compare(targets, words.output, words.pdf)
    if words.command == "verify":
        return bundle_commands.verify(words.bundle, words.retrain, words.steps, words.set)
    target = Target(words.sweep, words.runs_dir, getattr(words, "cluster", None))
    study = stage_commands.study_of(target)
    if study is not None:
        return stage_commands.run(study, words, lambda: _start_command(words))
    match words.command:
        case "submit":
            command = _start_command(words)
            return stage_commands.follow(target, command, lambda one: start.submit(one, command))
        case "retry":
            rule = retry_rule(words.names, words.failed, words.oom)
            command = _start_command(words)
            return stage_commands.follow(target, command, lambda one: start.retry(one, rule, command))
        case "extend":
            return start.extend(target, words.names, words.dry_run, words.yes, same_command(words))
        case "cancel":
            return start.cancel(target, words.names, words.dry_run, words.yes, same_command(words))
        case "clean":
            return start.clean(target, words.names, words.dry_run, words.yes, same_command(words))
        case "plan":
            return inspect.plan(target)
        case "data":
            return inspect.data(target, words.rows)
        case "status":
            return inspect.status(target, words.names, words.watch, words.json)
        case "logs":
            rank = None if words.rank == "all" else int(words.rank)
            return inspect.logs(target, words.names, words.follow, rank)
        case "why":
            return inspect.why(target, words.names)
        case "report":
            return inspect.report(target, words.plots, words.pdf)
        case "bundle":
            return bundle_commands.bundle(target, words.out, words.weights)
        case "prefetch":
            return inspect.prefetch(target)
    raise AssertionError(words.command)


def _start_command(words: argparse.Namespace) -> StartCommand:
    ignored = frozenset([*words.ignore, *([ALL] if words.no_preflight else [])])
    return StartCommand(
        StartOptions(words.max_parallel, ignored), words.dry_run, words.yes, same_command(words)
    )


def _warn(message: Warning | str, category: type[Warning], *place: object) -> None:
    print_notes([str(message)])


@contextmanager
def collect_rarely() -> Iterator[None]:
    """Have Python look for cyclic garbage rarely: thousands of runs are many objects and no garbage.

    With its own thresholds a command spends up to a fifth of its processor time on that.
    """
    before = gc.get_threshold()
    gc.set_threshold(500_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def main(argv: Sequence[str] | None = None) -> int:
    prepare_streams()
    words = parse(list(sys.argv[1:] if argv is None else argv))
    if not (getattr(words, "watch", False) or getattr(words, "follow", False)):
        ignore_broken_pipe()
    with warnings.catch_warnings(), collect_rarely():
        warnings.simplefilter("once", ConfigWarning)
        warnings.showwarning = _warn  # type: ignore[assignment]
        try:
            code = run(words)
            sys.stdout.flush()
            return code
        except HyperformerError as error:
            print_error(redaction.hide(str(error)))
            return BAD_INPUT
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # who watches has seen enough
            print_no_more()
            return DONE
        except OSError as error:
            print_error(describe_os_error(error))
            print_no_more()
            return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
