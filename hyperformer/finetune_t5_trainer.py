"""The entry that the scripts, ``deepspeed``, torchrun and srun start.

::

    deepspeed hyperformer/finetune_t5_trainer.py configs/hyperformer++.json [key=value ...]
    python hyperformer/finetune_t5_trainer.py configs/adapters.json tasks=rte seed=2
"""

from __future__ import annotations

import argparse
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started as a script, Python looks for modules beside it; the package is one folder up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hyperformer.errors import ConfigError, HyperformerError, Interrupted
from hyperformer.settings.build import settings
from hyperformer.settings.files import ConfigWarning, load_config

EXIT_BAD_INPUT = 2


def settings_help() -> str:
    """Every setting with its default and meaning, for --help."""
    lines = ["settings (key=value):"]
    for name, entry in settings().items():
        choices = f" (one of {', '.join(map(str, entry.choices))})" if entry.choices else ""
        lines.append(f"  {name + '=' + str(entry.default):<40} {entry.help}{choices}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a training run."""
    parser.add_argument("config", help="a config file, or the name of a shipped one (hyperformer++)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over the config's")
    parser.add_argument("--local_rank", type=int, help="set by the deepspeed launcher")


def train(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code. Errors that the user can mend come without a traceback."""
    warnings.showwarning = show_warning  # type: ignore[assignment]
    try:
        config = load_config(arguments.config, arguments.overrides)
        if not config.data.tasks:
            raise ConfigError(f"{arguments.config}: tasks is empty; write tasks=rte,cola")
        from hyperformer.run import run_all

        run_all(config, arguments.local_rank)
    except KeyboardInterrupt:
        print("interrupted before the training began", file=sys.stderr)
        return 128 + signal.SIGINT
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except HyperformerError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    # Ours are for the user; the libraries' are about their own insides.
    if issubclass(category, ConfigWarning):
        print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Fine-tune T5 by one of the six variants.",
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return train(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
