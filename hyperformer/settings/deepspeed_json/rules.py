"""What can be said of a key of DeepSpeed's JSON, and the values that it can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hyperformer.settings.schema import TrainingConfig

AUTO = "auto"
_ENDLESS = float("inf")


@dataclass(frozen=True)
class Values:
    """The values that a key can have, and how an error says so."""

    hold: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class FromSetting:
    """A key that says what a setting says: it must be equal to it, or "auto".

    Attributes:
        settings: names of the settings.
        value: what the key must be; None: not known before the rows are (``num_train_epochs``).
        remedy: key's value -> settings that mean the same; None: the setting's name and the value.
    """

    settings: tuple[str, ...]
    value: Callable[[TrainingConfig], Any]
    remedy: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Passed:
    """A key that DeepSpeed gets as the file has it.

    Attributes:
        default: what it is without the file, or a function of the settings that gives it.
        result: whether it can change the run's result, and so belongs to the signature. Sizes of buffers
            and the like cannot, beyond the order in which ranks are summed.
        auto: whether it can be "auto": as if the key were not there.
    """

    values: Values
    default: Any = None
    result: bool = False
    auto: bool = False


@dataclass(frozen=True)
class Checked:
    """A key with few values that fit what a run does anyway; DeepSpeed does not get it.

    Attributes:
        why: it can have no other value.
    """

    values: Values
    why: str = ""
    auto: bool = False


def _is_whole(value: Any, least: int) -> bool:
    return is_number(value) and value == int(value) and value >= least


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ENDLESS


def one_of(*choices: Any) -> Values:
    """One of these values."""
    shown = [str(choice).lower() if isinstance(choice, bool) else repr(choice) for choice in choices]
    return Values(
        lambda value: any(type(value) is type(choice) and value == choice for choice in choices),
        " or ".join(shown).replace("'", '"').replace("None", "null"),
    )


ANY = Values(lambda value: True, "anything")
BOOL = Values(lambda value: isinstance(value, bool), "true or false")
COUNT = Values(lambda value: _is_whole(value, 0), "a whole number")
POSITIVE = Values(lambda value: _is_whole(value, 1), "a whole number above 0")
NUMBER = Values(lambda value: is_number(value) and value >= 0, "a number that is not negative")
ONE = Values(lambda value: is_number(value) and value == 1, "1")
SHARE = Values(lambda value: is_number(value) and 0 <= value <= 1, "a number from 0 to 1")


Rule = FromSetting | Passed | Checked
