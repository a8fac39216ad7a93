"""What a task is: a data set, turned into text-to-text examples, with its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from hyperformer.data.tasks.recipes import RECIPES

SPLITS = ("train", "validation", "test")


def fields_of(template: str) -> tuple[str, ...]:
    """The columns of a template, or parts of them, in their order: 'text', 'translation[en]'."""
    return tuple(field for _, field, _, _ in Formatter().parse(template) if field is not None)


@dataclass(frozen=True)
class Hub:
    """Where a data set is on the Hugging Face hub.

    Attributes:
        path: 'owner/name'.
        name: its configuration ('labeled_final'), if it has several.
        parquet_copy: the data set is a loading script, which `datasets` no longer runs: read
            the parquet copy that the hub keeps.
        note: what is known about this source.
    """

    path: str
    name: str | None = None
    parquet_copy: bool = False
    note: str = ""


@dataclass(frozen=True)
class Alias:
    """Another name of a column, in another copy of the data set.

    Attributes:
        column: the name that template and target use.
        other: the name in the other copy.
        values: value in the other copy -> value here, both as text; None: they are the same.
    """

    column: str
    other: str
    values: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Task:
    """A data set as text-to-text examples.

    Attributes:
        name: its name in settings and tables.
        template: the source text, with columns in braces: 'premise: {premise}'. A part of a
            column is in brackets: '{translation[en]}', '{endings[0]}'.
        target: the column of the answer, written as in a template but without braces.
        metrics: names in :data:`hyperformer.data.metrics.METRICS`.
        labels: all possible answers; None: free text.
        label_map: value of the target column -> answer; None: the value itself, as text.
        rounded: the target is a number, rounded to 0.1 (stsb).
        answer: how metrics read predictions: as 'text', or as 'int' or 'float', where text that
            is no such number is -1 (the authors' post-processors).
        splits: 'train', 'validation' and 'test' -> name of the split in the source.
        size: 'small': half of the validation split becomes the test split; 'large': 1,000
            rows of train become validation, and validation becomes test; '': as in `splits`.
        hub: where it is on the hub; None: it is not there.
        aliases: other names of columns.
        unlabelled_rows: some rows of the source have no label (-1, or nothing); they are left out.
        num_beams: beams in generation.
        answer_tokens: most tokens of an answer; None: those of the longest label.
        prefix: the start of the source text, where a run uses prefixes; default: the name; '': none.
        group: a template that names the question a row belongs to, for metrics of whole questions; such rows
            stay in one split.
        accepted: the column with the list of all right answers, for metrics that take the best of them. A row
            is trained on once for each of them.
        file: the one file that its rows are in, whatever `data_source` says; None: they are where that says.
        split: percent of the source's training rows that are train, validation and test, as text ('90', '5', '5');
            (): as in `splits` and `size`.
        recipe: what is done to columns before the template uses them: a name in
            :data:`hyperformer.data.tasks.recipes.RECIPES`.
    """

    name: str
    template: str
    target: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    label_map: Mapping[str, str] | None = None
    rounded: bool = False
    answer: Literal["text", "int", "float"] = "text"
    splits: Mapping[str, str] = field(default_factory=lambda: {split: split for split in SPLITS})
    size: Literal["small", "large", ""] = ""
    hub: Hub | None = None
    aliases: tuple[Alias, ...] = ()
    unlabelled_rows: bool = False
    num_beams: int = 1
    answer_tokens: int | None = None
    prefix: str | None = None
    group: str = ""
    accepted: str = ""
    recipe: str = ""
    file: str | None = None
    split: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.prefix is None:
            object.__setattr__(self, "prefix", self.name)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that the source text is made of."""
        return self._columns(fields_of(self.template))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row with an answer needs."""
        answer = (self.target, *filter(None, [self.accepted]))
        return self._columns((*fields_of(self.template), *answer, *fields_of(self.group)))

    @property
    def has_references(self) -> bool:
        """Whether metrics read more of a row than its target."""
        return bool(self.group or self.accepted)

    def _columns(self, fields: Sequence[str]) -> tuple[str, ...]:
        """The columns of these fields, and those that the recipe reads for them."""
        names = dict.fromkeys(field.partition("[")[0] for field in fields)
        recipe = RECIPES[self.recipe]
        others = (other for name in names if name in recipe for other in recipe[name].others)
        return tuple(dict.fromkeys([*names, *others]))

    def columns_in(self, available: Sequence[str]) -> dict[str, Alias | str | None]:
        """Each of `columns` -> its name among the `available` ones, the alias to use, or None."""
        found: dict[str, Alias | str | None] = {}
        for column in self.columns:
            aliases = [alias for alias in self.aliases if alias.column == column and alias.other in available]
            found[column] = column if column in available else (aliases[0] if aliases else None)
        return found

    def answer_of(self, value: Any) -> str:
        """The target column's value as the text that the model has to write."""
        if self.rounded:
            import numpy as np  # too slow for the commands that only plan

            # The authors round stsb to 0.1, halves to even (the text-to-text papers: to 0.2).
            return str(float(np.round(np.float64(value), 1)))
        if self.labels is None:
            return str(value)
        # social_i_qa's labels end with a line feed.
        text = str(value).strip()
        return self.label_map.get(text, text) if self.label_map else text


def answer_length(task: Task, tokenizer: Any) -> int:
    """The most tokens that an answer of `task` may have, </s> included."""
    if task.answer_tokens is not None:
        return task.answer_tokens
    assert task.labels is not None  # the table and the YAML reader see to it
    return max(len(ids) for ids in tokenizer(list(task.labels))["input_ids"])
