"""The subcommands of ``hyperformer`` that show what a run would use: data and list."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperformer.commands.inspection.listing import KINDS, lines
from hyperformer.errors import HyperformerError
from hyperformer.settings.config_files import load_config

SHOWS = "show rows as the model sees them, lengths, label counts and what is cut, for each task and split"


def add_inspection_commands(commands: Any) -> None:
    """Add data and list to the parser's subcommands."""
    data = commands.add_parser("data", help=SHOWS)
    data.add_argument("config", help="a config file, or the name of a shipped one")
    data.add_argument("overrides", nargs="*", metavar="key=value", help="settings over the config's")
    add_rows(data)
    data.set_defaults(command=_data)
    names = commands.add_parser("list", help="list the variants, tasks, metrics or configs that can be named")
    names.add_argument("kind", choices=KINDS, help="what to list")
    names.add_argument("--task-file", type=Path, metavar="YAML", help="with tasks: also those of this file")
    names.set_defaults(command=_list)


def add_rows(parser: argparse.ArgumentParser) -> None:
    """The option that says how many rows are shown."""
    parser.add_argument(
        "--rows", type=int, default=3, metavar="N", help="training rows shown of each task (default: 3)"
    )


def check_rows(rows: int) -> None:
    """Raise HyperformerError for a number of rows that cannot be."""
    if rows < 0:
        raise HyperformerError(f"--rows is {rows}; write 0 or more")


def check_faults(faults: Sequence[str]) -> None:
    """Raise HyperformerError if some tasks cannot be used, with all reasons."""
    if faults:
        count = "1 task" if len(faults) == 1 else f"{len(faults)} tasks"
        raise HyperformerError("\n".join([f"{count} cannot be used:", *faults]))


def _data(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.inspection.data_report import print_data

    config = load_config(arguments.config, arguments.overrides)
    check_rows(arguments.rows)
    if not config.data.tasks:
        raise HyperformerError(f"{arguments.config}: tasks is empty; write tasks=rte,cola")
    check_faults(print_data([config], arguments.rows))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    if arguments.task_file is not None and arguments.kind != "tasks":
        raise HyperformerError(f"--task-file is for `list tasks`, not for {arguments.kind}")
    for line in lines(arguments.kind, arguments.task_file):
        print(line)
    return 0
