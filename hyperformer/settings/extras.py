"""Methods that an optional package makes: whether it is installed, and what works with them. Imports none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.methods import METHODS, Fault
from hyperformer.settings.precision import zero_stage
from hyperformer.settings.schema import RunConfig

VERSIONS = {"peft": ">=0.21.2,<0.22"}
"""Extra, which is also the package's name -> the versions that work; setup.py has the same."""


def check_installed(kind: str) -> None:
    """See that the package of a tuning method is there, in a version that works.

    Args:
        kind: a value of the setting `adapter`.

    Raises:
        ConfigError: it is not; the message has the command that installs it.
    """
    extra = METHODS[kind].extra
    if extra:
        check_extra(extra, f"adapter is {kind}: it needs the package {extra}")


def version(package: str) -> str:
    """The version that is installed."""
    import importlib.metadata  # too slow for those who need no extra

    return importlib.metadata.version(package)


def check_extra(extra: str, needed: str) -> None:
    """:func:`check_installed` for a package by its name; `needed` starts the message."""
    from importlib.metadata import PackageNotFoundError

    from packaging.specifiers import SpecifierSet

    try:
        found = version(extra)
    except PackageNotFoundError:
        found = None
    if found is None or found not in SpecifierSet(VERSIONS[extra], prereleases=True):
        text = "which is not installed here" if found is None else f"and version {found} is installed here"
        raise ConfigError(
            f"{needed} {VERSIONS[extra]}, {text}. Install it: pip install 'hyperformer[{extra}]' "
            f"(in a clone: pip install -e '.[{extra}]')"
        )


def extra_faults(config: RunConfig, flat: Mapping[str, Any]) -> Iterator[Fault]:
    """What contradicts a method that an optional package makes.

    Args:
        flat: the config's flat settings.
    """
    kind = config.adapter.adapter
    method = METHODS[kind]
    if not method.extra:
        return
    for key, value in flat.items():
        if value is True and key.startswith(("freeze_", "unfreeze_")):
            yield (
                key,
                f"adapter is {kind}: {method.extra} keeps the adapter alone, so nothing else may train or freeze",
            )
    if config.model.init_from is not None:
        yield "init_from", f"adapter is {kind}: such a run cannot start from another; leave it out"
    if zero_stage(config.training) == 3:
        yield (
            "zero_stage",
            f"adapter is {kind}: adapters of other tasks have no gradient in a step; write 2 or less",
        )
    if config.training.gradient_checkpointing and kind == "prefix_tuning":
        yield "gradient_checkpointing", "adapter is prefix_tuning: the prefix is in the cache, which it drops"
