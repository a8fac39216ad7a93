"""The words of ``sweep.py``'s command line. Does nothing but read them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launchers.submit.preflight import ALL

COMMANDS = (
    "submit", "plan", "status", "logs", "why", "cancel", "retry", "report", "prefetch", "clusters",
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if sys.argv[0].endswith(".py") else "hyperformer-sweep",
        description="Plan, run and report a sweep of HyperFormer runs. Without a command: submit.",
        epilog="exit codes: 0 well, 1 some run failed, 2 bad input, 130 interrupted",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "sweep", metavar="SWEEP", help="sweep file, or a shipped one's name (demo, glue, ...)"
    )
    shared.add_argument("--runs-dir", type=Path, default=Path("runs"), help="holds a folder a sweep (runs)")
    dry = argparse.ArgumentParser(add_help=False)
    dry.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and do nothing")

    def add(name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, parents=[shared, *parents])

    start = argparse.ArgumentParser(add_help=False)
    start.add_argument("--max-parallel", type=_positive, metavar="N", help="jobs at once at most")
    start.add_argument("-y", "--yes", action="store_true", help="do not ask")
    start.add_argument(
        "--ignore",
        type=_names,
        default=frozenset(),
        metavar="NAME,...",
        help="start in spite of these findings of the preflight; their names stand in its message",
    )
    start.add_argument(
        "--no-preflight", dest="ignore", action="store_const", const=frozenset({ALL}), help="--ignore all"
    )
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--cluster", metavar="NAME|FILE",
        help="local, slurm, or a profile (clusters/NAME.yaml); default: as last time, else slurm if sbatch is there",
    )  # fmt: skip
    add("submit", "start the runs that are missing, failed or stopped", dry, start, where)
    add("plan", "show the runs that the file means")
    one = add("status", "show how the runs stand")
    one.add_argument("-w", "--watch", action="store_true", help="renew until no run is going")
    one.add_argument("--json", action="store_true", help="for programs")
    runs = "names of runs, globs such as 'adapters-*', or key=value such as seed=2 (default: all)"
    one = add("logs", "show the logs of runs")
    one.add_argument("names", metavar="NAME", nargs="+", help=runs.replace("(default: all)", "('*' for all)"))
    one.add_argument("-f", "--follow", action="store_true", help="go on while the runs go on")
    one.add_argument(
        "--rank", type=_rank, default="0", metavar="N|all", help="of runs with several ranks (0)"
    )
    one = add("why", "say why runs wait or failed")
    one.add_argument("names", metavar="NAME", nargs="*", help=runs)
    one = add("cancel", "stop runs; they save first", dry)
    one.add_argument("names", metavar="NAME", nargs="*", help=runs)
    one.add_argument("-y", "--yes", action="store_true", help="do not ask")
    one = add("retry", "start again runs that did not end well", dry, start, where)
    one.add_argument("names", metavar="NAME", nargs="*", help=runs)
    one.add_argument("--failed", action="store_true", help="failed ones only, not stopped or cancelled ones")
    one.add_argument("--oom", action="store_true", help="only those that ran out of memory")
    add("prefetch", "fetch models and data sets, and prove that they load offline", where)
    one = commands.add_parser("clusters", help="list cluster profiles; init: write a first one")
    one.add_argument("action", choices=("list", "init"), nargs="?", default="list")
    one.add_argument("name", nargs="?", help="init: name of the profile (site)")
    one = add("report", "write and show the table of results")
    one.add_argument(
        "--plots",
        action="store_true",
        help="also draw how alike each hypernetwork's tasks are (needs matplotlib)",
    )
    return parser


def _rank(text: str) -> str:
    if text != "all" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a rank's number or all, not {text!r}")
    return text


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments; names may stand before and after options (argparse takes them in one place only)."""
    parser = _parser()
    if words and words[0] not in (*COMMANDS, "-h", "--help"):
        words = ["submit", *words]
    arguments, rest = parser.parse_known_args(words)
    if rest and (not hasattr(arguments, "names") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.names = [*arguments.names, *rest]
    return arguments
