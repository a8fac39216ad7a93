"""Answers of a trained model to texts or rows, from a file or a pipe, as JSON lines.

A line of plain text is a source as it is. A JSON object has the columns that the
task's template reads (not the answer's); template and prefix are applied as in
training. What comes out is in the order of what went in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
import torch

from hyperformer.adapters.build import load_tokenizer
from hyperformer.adapters.whole import Trained, load_trained
from hyperformer.data.collate import pad
from hyperformer.data.examples import make_sources
from hyperformer.data.readers.json_rows import parse_record
from hyperformer.data.readers.rows import record_rows
from hyperformer.data.tasks import Task, get_task, load_user_tasks
from hyperformer.errors import ConfigError, DataError, nearest
from hyperformer.files import atomic_write
from hyperformer.settings.schema import DataConfig, ModelConfig
from hyperformer.training.evaluation import Decoding, answer
from hyperformer.training.rank_classification import check_decode

InputFormat = Literal["auto", "text", "json"]
PREDICTION = "prediction"


@dataclass(frozen=True)
class Item:
    """One line of the input: the text that the model reads, and what is written before the answer."""

    source: str
    columns: dict[str, Any]


class Predictor:
    """A trained model with the tokenizer and the task that it answers for.

    Args:
        trained: from :func:`load_trained`.
        task: name of the task.
        decode: 'generate', or 'rank' among the task's labels.

    Raises:
        ConfigError: the model has no such task, or the task no labels to rank.
        CheckpointError: the tokenizer cannot be loaded.
    """

    def __init__(self, trained: Trained, task: str, *, decode: str = "generate") -> None:
        config = trained.model.config
        if config.tasks and task not in config.tasks:
            raise ConfigError(f"task {task!r} is not one of this model's{nearest(task, config.tasks)}")
        self.task = get_task(task, load_user_tasks(trained.task_file) if trained.task_file else None)
        check_decode([self.task], decode)
        self.decode = decode
        self.tokenizer = load_tokenizer(ModelConfig(model_name_or_path=trained.tokenizer_name))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = trained.model.to(self.device)
        plain = config.adapter_config.adapter == "none"
        self.prefix = plain if config.task_prefix is None else config.task_prefix
        self.max_source_length = config.max_source_length or DataConfig().max_source_length
        self.truncated = 0
        """Sources so far that were longer than `max_source_length` tokens, and cut."""

    def answers(self, sources: list[str]) -> list[str]:
        """The answers to one batch of sources, in their order."""
        rows = []
        for ids in self.tokenizer(sources, return_attention_mask=False, verbose=False)["input_ids"]:
            if len(ids) > self.max_source_length:
                ids = ids[: self.max_source_length - 1] + ids[-1:]  # </s> stays
                self.truncated += 1
            rows.append(np.asarray(ids))
        input_ids = pad(rows, self.tokenizer.pad_token_id).to(self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(input_ids.shape[1], device=self.device) < lengths[:, None]).long()
        batch = {"input_ids": input_ids, "attention_mask": mask}
        return answer(self.model, self.task, self.tokenizer, batch, Decoding(self.decode))

    def predict(self, items: Iterable[Item], batch_size: int) -> Iterator[dict[str, Any]]:
        """Each item's columns and its answer; a batch is answered as soon as it is full."""
        iterator = iter(items)
        while batch := list(islice(iterator, batch_size)):
            for item, text in zip(batch, self.answers([item.source for item in batch]), strict=True):
                yield {**item.columns, PREDICTION: text}


def read_items(
    lines: Iterable[bytes], task: Task, *, prefix: bool, where: str, form: InputFormat = "auto"
) -> Iterator[Item]:
    """The items of the lines of a file or pipe, one at a time.

    Args:
        prefix: start the sources of rows with the task's prefix, as in training.
        where: the file's name for errors.
        form: 'text' or 'json'; 'auto': JSON if the first line starts with '{'.

    Raises:
        DataError: a line is not UTF-8, is empty, is not a JSON object, or lacks a column.
    """
    read: Callable[[str], Item] | None = None
    for number, line in enumerate(lines, 1):

        def fail(why: str, number: int = number) -> NoReturn:
            raise DataError(f"{where}, line {number}: {why}")

        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            fail(f"not UTF-8: {error}")
        if not text.strip():
            fail("is empty; every line is one text or one JSON object")
        if read is None:
            as_json = text.lstrip().startswith("{") if form == "auto" else form == "json"
            read = (
                (lambda text: _row(text, task, prefix))
                if as_json
                else (lambda text: Item(text, {"input": text}))
            )
        try:
            item = read(text)
        except (ValueError, DataError) as error:
            fail(str(error))
        yield item


def _row(text: str, task: Task, prefix: bool) -> Item:
    """The item of a JSON line; ValueError says what is wrong with it."""
    row = parse_record(text)
    if PREDICTION in row:
        raise ValueError(f"the row has a column {PREDICTION!r}, where the answer would go; rename it")
    (source,) = make_sources(task, record_rows([row], "this row", lambda _: "this row"), prefix=prefix)
    return Item(source, row)


@contextmanager
def _open_input(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    if not Path(name).is_file():
        raise DataError(f"--input {name}: there is no such file")
    with Path(name).open("rb") as stream:
        yield stream


@contextmanager
def _open_output(name: str) -> Iterator[IO[str]]:
    if name == "-":
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # JSON is, whatever the terminal's encoding
        yield sys.stdout
        return
    if not Path(name).parent.is_dir():
        raise ConfigError(f"--output {name}: there is no folder {Path(name).parent}")
    with atomic_write(name) as stream:
        yield stream


def run_predict(
    model: str,
    task: str,
    *,
    input: str = "-",
    output: str = "-",
    batch_size: int = 32,
    base: str | None = None,
    decode: str = "generate",
    form: InputFormat = "auto",
) -> int:
    """What ``hyperformer predict`` does; a file is written whole or not at all, a pipe batch by batch.

    Args:
        model: folder or repository of an adapter or a whole model.
        task: name of the task.
        input, output: files, or '-' for the pipes.
        base: as in :func:`load_trained`.

    Returns:
        How many lines were answered.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can mend.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}; write a whole number above 0")
    where = "standard input" if input == "-" else input
    count = 0
    with _open_input(input) as lines, _open_output(output) as stream:
        predictor = Predictor(load_trained(model, base), task, decode=decode)
        items = read_items(lines, predictor.task, prefix=predictor.prefix, where=where, form=form)
        for row in predictor.predict(items, batch_size):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            if count % batch_size == 0:
                stream.flush()
        if not count:
            raise DataError(f"{where}: no lines; every line is one text or one JSON object")
    if predictor.truncated:
        print(
            f"{predictor.truncated:,} of {count:,} sources were cut at {predictor.max_source_length} tokens",
            file=sys.stderr,
        )
    return count
