"""The ``hyperformer`` command."""

from __future__ import annotations

import sys

from hyperformer.terminal import prepare_streams, print_error, print_no_more, quiet_interrupts

quiet_interrupts()

import argparse
import warnings
from collections.abc import Sequence

from hyperformer import __version__, finetune_t5_trainer
from hyperformer.commands.inspection.parser import add_inspection_commands
from hyperformer.commands.parser import add_model_commands
from hyperformer.disk_space import FULL
from hyperformer.errors import HyperformerError, describe_os_error
from hyperformer.settings.config_files import load_config

EXIT_PIPE_CLOSED = 128 + 13


def _params(arguments: argparse.Namespace) -> int:
    from hyperformer.adapters.parameters import count_config, parameter_table

    print(parameter_table(count_config(load_config(arguments.config, arguments.overrides))))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="hyperformer", description="Parameter-efficient multi-task fine-tuning of T5."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    train = commands.add_parser(
        "train",
        help="train and evaluate one run",
        epilog=finetune_t5_trainer.settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    finetune_t5_trainer.add_arguments(train)
    train.set_defaults(command=finetune_t5_trainer.train)

    params = commands.add_parser("params", help="count a config's parameters, by part; loads no weights")
    params.add_argument("config", help="a config file, or the name of a shipped one")
    params.add_argument("overrides", nargs="*", metavar="key=value", help="settings over the config's")
    params.set_defaults(command=_params)
    add_inspection_commands(commands)
    add_model_commands(commands)

    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        return finetune_t5_trainer.EXIT_BAD_INPUT
    arguments, rest = parser.parse_known_args(words)
    # argparse takes key=value in one place only, before or after the options.
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    warnings.showwarning = finetune_t5_trainer.show_warning  # type: ignore[assignment]
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        print_no_more()  # the reader of our output has left ("| head")
        return EXIT_PIPE_CLOSED
    except HyperformerError as error:
        print_error(error)
        return finetune_t5_trainer.EXIT_BAD_INPUT
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        print_no_more()
        print_error(describe_os_error(error))
        return finetune_t5_trainer.EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
