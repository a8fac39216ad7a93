"""The commands and options of ``sweep.py``. Does nothing but read them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from hyperformer import __version__
from hyperformer.commands.inspection.parser import SHOWS, add_rows
from launchers.plan.sweep_file import SWEEPS
from launchers.submit.preflight import NAMES

COMMANDS = (
    "submit", "plan", "status", "logs", "why", "cancel", "retry", "extend", "report", "compare", "bundle", "verify",
    "clean", "prefetch", "data", "clusters",
)  # fmt: skip


RUNS = "names of runs, globs such as 'adapters-*', or key=value such as seed=2"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if sys.argv[0].endswith(".py") else "hyperformer-sweep",
        description="Plan, run and report a sweep of HyperFormer runs. Without a command: submit.",
        epilog="exit codes: 0 success, 1 some run failed, 2 bad input, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _options()
    shipped = ", ".join(SWEEPS.names())
    shared.add_argument(
        "sweep",
        metavar="SWEEP",
        help=f"sweep file, or the name of a shipped one ({shipped}); one of its stages: FILE:STAGE",
    )
    shared.add_argument(
        "--runs-dir", type=_path, default=Path("runs"), metavar="FOLDER",
        help="folder with one folder per sweep (default: runs)",
    )  # fmt: skip

    def add(name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, parents=[shared, *parents])

    _add_start_commands(add)
    _add_inspect_commands(add)
    _add_verify(commands)
    one = commands.add_parser("clusters", help="list cluster profiles, or write a first one (init)")
    one.add_argument("action", choices=("list", "init"), nargs="?", default="list", help="default: list")
    one.add_argument("name", nargs="?", type=_given, help="init: name of the profile (default: site)")
    return parser


_Add = Callable[..., argparse.ArgumentParser]


def _options() -> argparse.ArgumentParser:
    """Options that several commands share."""
    return argparse.ArgumentParser(add_help=False)


def _add_start_commands(add: _Add) -> None:
    dry, ask, start, where = _options(), _options(), _options(), _where()
    dry.add_argument("-n", "--dry-run", action="store_true", help="show what would be done, and do nothing")
    ask.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")
    start.add_argument("--max-parallel", type=_positive, metavar="N", help="maximum number of jobs at a time")
    start.add_argument(
        "--ignore", type=_names, action="extend", default=[], metavar="NAME,...",
        help=f"start in spite of these findings of the preflight: {', '.join(NAMES)}",
    )  # fmt: skip
    start.add_argument(
        "--no-preflight", action="store_true", help="start in spite of any finding that can be ignored"
    )
    add("submit", "start the runs that are missing, failed or stopped", dry, ask, start, where)
    one = add("retry", "start again runs that did not end well", dry, ask, start, where, _names_argument())
    one.add_argument("--failed", action="store_true", help="only failed runs, not stopped or cancelled ones")
    one.add_argument("--oom", action="store_true", help="only runs that ran out of memory")
    add(
        "extend",
        "continue finished runs whose max_steps you raised in the sweep file",
        dry,
        ask,
        _names_argument(),
    )
    add("cancel", "stop runs; they save first", dry, ask, _names_argument())
    what = "remove the checkpoints of runs that are done; their results, answers and trained weights stay"
    add("clean", what, dry, ask, _names_argument())
    add("prefetch", "download models and data sets, and prove that they load offline", where)


def _add_inspect_commands(add: _Add) -> None:
    add("plan", "show the runs that the sweep file means")
    add_rows(add("data", SHOWS))
    one = add("status", "show the state of the runs", _names_argument())
    one.add_argument("-w", "--watch", action="store_true", help="refresh until no run is waiting or running")
    one.add_argument("--json", action="store_true", help="print JSON, for programs")
    one = add("logs", "show the logs of runs")
    one.add_argument("names", metavar="NAME", nargs="+", help=f"{RUNS} ('*': all)")
    one.add_argument("-f", "--follow", action="store_true", help="show new lines until the runs have ended")
    one.add_argument(
        "--rank",
        type=_rank,
        default="0",
        metavar="N|all",
        help="whose log, of a run with several ranks (default: 0)",
    )
    add("why", "explain why runs wait or failed", _names_argument())
    one = add("report", "write and show the table of results")
    one.add_argument(
        "--plots", action="store_true",
        help="also draw how similar the tasks of each hypernetwork are (needs the extra `plot`: matplotlib)",
    )  # fmt: skip
    one.add_argument("--pdf", action="store_true", help="also compile report.pdf (needs a TeX)")
    one = add("compare", "write one report of several sweeps")
    one.add_argument("others", metavar="SWEEP", nargs="+", help="the other sweeps")
    one.add_argument("--pdf", action="store_true", help="also compile report.pdf (needs a TeX)")
    one.add_argument(
        "--output",
        type=_path,
        metavar="FOLDER",
        help="folder of the report (default: runs/compare/SWEEP+SWEEP)",
    )

    one = add("bundle", "pack a sweep into one archive, for reviewers")
    one.add_argument(
        "-o", "--out", type=_path, metavar="FILE", help="the archive (default: <sweep>-bundle.zip here)"
    )  # fmt: skip
    one.add_argument("--weights", action="store_true", help="also pack the trained weights (adapter/)")


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    what = "compute every number of a bundle again from the answers in it"
    one = commands.add_parser("verify", help=what, description=f"{what}; needs no sweep")
    one.add_argument("bundle", metavar="BUNDLE", type=_path, help="what `bundle` wrote")
    one.add_argument(
        "--retrain", metavar="NAME", help="also train this run again from its seed, and compare the losses"
    )
    one.add_argument(
        "--steps", type=_positive, metavar="N",
        help="with --retrain: end at the first logged step from N on (default: 20)",
    )  # fmt: skip
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=PATH",
        help="with --retrain: where a file or folder is on this machine, such as data_dir=glue",
    )  # fmt: skip


def _names_argument() -> argparse.ArgumentParser:
    parser = _options()
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"{RUNS} (default: all)")
    return parser


def _where() -> argparse.ArgumentParser:
    where = _options()
    where.add_argument(
        "--cluster", type=_given, metavar="NAME|FILE",
        help="local, slurm, or a profile (`clusters` lists them); default: as last time, else slurm if there is an "
        "sbatch, else local",
    )  # fmt: skip
    return where


def _rank(text: str) -> str:
    if text != "all" and not _is_count(text):
        raise argparse.ArgumentTypeError(f"must be a rank's number or all, not {text!r}")
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    if not _is_count(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, of nine digits at most, not {text!r}"
        )
    return int(text)


def _is_count(text: str) -> bool:
    """Whether it is a whole number in plain digits; more than nine of them count nothing."""
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def _given(text: str) -> str:
    """A word that is not empty, as that of a variable of the shell which is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: name one, or leave it out")
    return text


def _path(text: str) -> Path:
    return Path(_given(text))


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments; names may come before and after options (argparse takes them in one place only)."""
    parser = _parser()
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(2)
    first = words[0]
    if first not in (*COMMANDS, "-h", "--help", "--version"):
        words = ["submit", *words]
    arguments, rest = parser.parse_known_args(words)
    meant = get_close_matches(first, COMMANDS, 1)
    if rest and first not in COMMANDS and meant:
        parser.error(f"{first!r} is no command; did you mean {meant[0]!r}?")
    if rest and (not hasattr(arguments, "names") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.names = [*arguments.names, *rest]
    return arguments
