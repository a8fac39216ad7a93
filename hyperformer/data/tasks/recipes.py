"""T5's own preprocessing, where a template alone cannot say it: columns of the hub -> columns of the template.

Raffel et al. 2020, section 2.3 and appendix D, and their library `t5`. A recipe gives columns other values and
keeps their names, so that an error names what is in the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperformer.data.readers.rows import Rows
from hyperformer.errors import DataError

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_HIGHLIGHT_AFTER_END = re.compile(r"([.?!\"'])\n@highlight\n")


@dataclass(frozen=True)
class Change:
    """How the values of a column are changed.

    Attributes:
        function: of the value, and of the row's values of `others`; ValueError says what is wrong with them.
        others: columns of the source that it reads too.
    """

    function: Callable[..., Any]
    others: tuple[str, ...] = ()


Recipe = Mapping[str, Change]
"""Column -> how it is changed."""


def apply(recipe: Recipe, rows: Rows) -> Rows:
    """The rows with the changed columns; a column is changed when it is asked for."""

    def column(name: str) -> Sequence[Any]:
        values, change = rows.column(name), recipe.get(name)
        if change is None:
            return values
        others = [rows.column(other) for other in change.others]
        lines = zip(values, *others, strict=True)
        return [_changed(change, line, repr(name), rows, row) for row, line in enumerate(lines)]

    return dataclasses.replace(rows, column=column, originals=None) if recipe else rows


def _changed(change: Change, values: tuple[Any, ...], name: str, rows: Rows, row: int) -> Any:
    if values[0] is None:
        return None
    try:
        return change.function(*values)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{rows.place(row)}: column {name}: {error}") from error


def _pad_punctuation(value: Any) -> Any:
    """Blanks around each punctuation mark, as T5 has them in SQuAD; of a dict of lists, in every text."""
    if isinstance(value, dict):
        return {key: [_pad_punctuation(item) for item in items] for key, items in value.items()}
    if not isinstance(value, str):
        return value
    return re.sub(r"\s+", " ", _PUNCTUATION.sub(r" \1 ", value)).strip()


def _without_markup(text: str) -> str:
    return re.sub(r"</?b>", "", text.replace("<br>", " "))


def _without_highlights(passage: str) -> str:
    return _HIGHLIGHT_AFTER_END.sub(r"\1 ", passage).replace("\n@highlight\n", ". ")


def _marked(text: str, pronoun: str, index: Any) -> str:
    """The text with its pronoun in asterisks: 'it made *it* pleasant'."""
    words = re.split(r"(\s+)", text.strip())  # blanks are at odd places
    for place in (int(index), int(index) + 1, int(index) - 1):  # in a row of WSC the number is off by one
        word = words[2 * place] if 0 <= 2 * place < len(words) else ""
        if word.lower().startswith(pronoun.lower()):
            words[2 * place] = f"*{word[: len(pronoun)]}*{word[len(pronoun) :]}"
            return "".join(words)
    raise ValueError(f"word number {index} (span2_index) does not start with {pronoun!r} (span2_text)")


def _if_right(label: Any, text: str) -> list[str] | None:
    """The accepted answers of WSC: the candidate, if it is the referent; None: the row has no label."""
    verdicts = {"1": True, "true": True, "0": False, "false": False, "-1": None}
    if str(label).lower() not in verdicts:
        raise ValueError(f"{label!r} is neither 0 nor 1")
    verdict = verdicts[str(label).lower()]
    return None if verdict is None else [text] * verdict


def _joined(entities: Sequence[str]) -> str:
    return ", ".join(entities)


RECIPES: dict[str, Recipe] = {
    "": {},
    "multirc": dict.fromkeys(("paragraph", "question", "answer"), Change(_without_markup)),
    "record": {"passage": Change(_without_highlights), "entities": Change(_joined)},
    "squad": dict.fromkeys(("question", "context", "answers"), Change(_pad_punctuation)),
    "wsc": {
        "text": Change(_marked, ("span2_text", "span2_index")),
        "label": Change(_if_right, ("span1_text",)),
    },
}
"""Every recipe by the name that a task's row has for it."""
