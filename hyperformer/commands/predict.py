"""Answers of a trained model to texts or rows, as JSON lines, in the order of the input.

A line of plain text is a source as it is. A row has the columns that the task's template
reads (not the answer's); template and prefix are applied as in training.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.trained_model import TrainedModel, load_trained
from hyperformer.commands.inputs import PREDICTION, Input, Item
from hyperformer.data.collate import pad
from hyperformer.data.dataset import truncate
from hyperformer.data.label_checks import check_labels
from hyperformer.data.tasks import get_task, load_user_tasks
from hyperformer.errors import ConfigError, DataError, nearest
from hyperformer.files import atomic_write
from hyperformer.settings.schema import DataConfig, ModelConfig
from hyperformer.training.decoding.rank_classification import check_decode
from hyperformer.training.evaluation import Decoding, answer
from hyperformer.training.memory.out_of_memory import RowLimit
from hyperformer.training.numerics.kernels import compute_as_run


@dataclass(frozen=True)
class Request:
    """What ``predict`` and ``evaluate`` are asked for.

    Attributes:
        model: folder or repository of an adapter or a whole model, or a run's folder.
        base: as in :func:`load_trained`.
        decode: as in :class:`Predictor`.
    """

    model: str
    task: str | None
    input: Input
    base: str | None = None
    decode: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    def predictor(self) -> Predictor:
        """The model, loaded."""
        return Predictor(load_trained(self.model, self.base), self.task, decode=self.decode)


def check_batch_size(size: int) -> None:
    if size < 1:
        raise ConfigError(f"--batch-size is {size}; write a whole number above 0")


def _choose_task(task: str | None, known: Sequence[str]) -> str:
    """The task that is meant: the named one, or the only one of the model; raises ConfigError."""
    if task is None and len(known) != 1:
        raise ConfigError(
            f"name the task of the rows by --task: {', '.join(known) or 'the model does not say which'}"
        )
    task = known[0] if task is None else task
    if known and task not in known:
        raise ConfigError(f"task {task!r} is not one of this model's{nearest(task, known)}")
    return task


class Predictor:
    """A trained model with the tokenizer and the task that it answers for.

    Args:
        trained: from :func:`load_trained`.
        task: name of the task; None: the model's only one.
        decode: 'generate'; 'constrained', to the task's labels; or 'rank' among them; None: as the evaluations of the
            model's run did, or 'generate' where that is not known.

    Raises:
        ConfigError: the model has no such task, or the task no labels to answer with.
        CheckpointError: the tokenizer cannot be loaded.
    """

    def __init__(self, trained: TrainedModel, task: str | None = None, *, decode: str | None = None) -> None:
        config = trained.model.config
        task = _choose_task(task, config.tasks or [])
        self.task = get_task(task, load_user_tasks(trained.task_file) if trained.task_file else None)
        self.decode = decode or (config.answer_settings or {}).get("decode") or "generate"
        check_decode([self.task], self.decode)
        self.tokenizer = load_tokenizer(ModelConfig(model_name_or_path=trained.tokenizer_name), config)
        if self.decode != "generate":  # what is chosen must be one label's
            check_labels(self.task, self.tokenizer, method=self.decode)
        self.model, self.device = trained.model, compute_as_run(trained.model)
        self.prefix = (not trained.model.knows_task) if config.task_prefix is None else config.task_prefix
        self.max_source_length = config.max_source_length or DataConfig().max_source_length
        self.limit = RowLimit()
        self.truncated = 0
        """Sources so far that were longer than `max_source_length` tokens, and cut."""

    def answers(self, sources: list[str]) -> list[str]:
        """The answers to one batch of sources, in their order."""
        rows = self.tokenizer(sources, return_attention_mask=False, verbose=False)["input_ids"]
        long = [len(ids) > self.max_source_length for ids in rows]
        self.truncated += sum(long)
        ids = [
            np.asarray(truncate(row, self.max_source_length) if is_long else row)
            for row, is_long in zip(rows, long, strict=True)
        ]
        input_ids = pad(ids, self.tokenizer.pad_token_id).to(self.device)
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        mask = (torch.arange(input_ids.shape[1], device=self.device) < lengths[:, None]).long()
        batch = {"input_ids": input_ids, "attention_mask": mask}
        decoding = Decoding(self.decode)
        found = self.limit.answer(
            batch, lambda part: answer(self.model, self.task, self.tokenizer, part, decoding)
        )
        return [one.text for one in found]

    def predict(self, items: Iterable[Item], batch_size: int) -> Iterator[dict[str, Any]]:
        """Each item's columns and its answer; a batch is answered as soon as it is full."""
        iterator = iter(items)
        while batch := list(islice(iterator, batch_size)):
            for item, text in zip(batch, self.answers([item.source for item in batch]), strict=True):
                yield {**item.columns, PREDICTION: text}


@contextmanager
def _open_output(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
        return
    if not Path(name).parent.is_dir():
        raise ConfigError(f"--output {name}: there is no folder {Path(name).parent}")
    with atomic_write(name) as stream:
        yield stream


def run_predict(request: Request, output: str = "-") -> int:
    """What ``hyperformer predict`` does. A file is written atomically, a pipe batch by batch.

    Args:
        output: a file, or '-' for standard output.

    Returns:
        How many items were answered.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can correct.
    """
    count = 0
    with _open_output(output) as stream:
        predictor = request.predictor()
        items = request.input.items(predictor.task, prefix=predictor.prefix)
        # A terminal that is not UTF-8 would change characters, quotation marks among them.
        is_utf8 = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name == "utf-8"
        for row in predictor.predict(items, request.batch_size):
            stream.write(json.dumps(row, ensure_ascii=not is_utf8) + "\n")
            count += 1
            if count % request.batch_size == 0:
                stream.flush()
        if not count:
            raise DataError(f"{request.input.where}: no rows; there is nothing to answer")
    if predictor.truncated:
        print(
            f"{predictor.truncated:,} of {count:,} sources were cut at {predictor.max_source_length} tokens",
            file=sys.stderr,
        )
    return count
