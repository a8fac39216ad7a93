"""What a run would read: rows as the model sees them, lengths, labels, and what is cut. Loads no weights."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.data.cache.key import OF_SAMPLING
from hyperformer.data.dataset import CHUNK, truncate
from hyperformer.data.examples import Examples
from hyperformer.data.label_checks import check_labels
from hyperformer.data.sampling.mixing import Mixing
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import SPLITS, Task, answer_length, get_task, load_user_tasks
from hyperformer.errors import HyperformerError
from hyperformer.settings.build import flatten
from hyperformer.settings.schema import RunConfig
from hyperformer.terminal import printable
from hyperformer.training.decoding.rank_classification import check_decode

_MOST_TOKENS = 80
_MOST_CHARACTERS = 600
_MOST_ANSWERS = 12
# Settings beside the section `data` that decide what a task's rows look like.
_READ = ("model_name_or_path", "tokenizer_name", "decode", "do_test", "do_eval")


@dataclass(frozen=True)
class Tokenized:
    """The texts of a split as token ids, of which the first `limit` are kept."""

    ids: list[list[int]]
    limit: int

    def kept(self, row: int) -> list[int]:
        """The ids that the model sees."""
        return truncate(self.ids[row], self.limit) if len(self.ids[row]) > self.limit else self.ids[row]


def print_data(configs: Iterable[RunConfig], rows: int) -> list[str]:
    """Print what the tasks of some runs look like; what several runs read alike is shown once.

    Args:
        rows: how many are shown of each task.

    Returns:
        for each task that a run could not use, why.
    """
    seen: set[str] = set()
    faults = []
    tokenizer_of = functools.cache(load_tokenizer)  # one tokenizer serves all tasks
    for config in configs:
        own = load_user_tasks(config.data.task_file) if config.data.task_file else {}
        sizes: dict[str, int] = {}
        for name in config.data.tasks:
            key = _key(config, name)
            if key in seen:
                continue
            seen.add(key)
            try:
                task, tokenizer = get_task(name, own), tokenizer_of(config.model)
                for line in _task_lines(config, task, tokenizer, rows, sizes):
                    print(line)
            except HyperformerError as error:
                faults.append(f"{name}: {error}")
                print(f"  a run would stop here: {error}")
        if len(sizes) == len(config.data.tasks) > 1:
            shares = Mixing.of(config.data).distribution(sizes)
            text = ", ".join(f"{task} {share:.1%}" for task, share in zip(sizes, shares, strict=True))
            drawn = "rows" if config.data.batching == "mixed" else "batches"
            print(f"mixing={config.data.mixing}: {drawn} are drawn of {text}")
    return faults


def _key(config: RunConfig, task: str) -> str:
    flat = flatten(config)
    data = {key: value for key, value in vars(config.data).items() if key not in OF_SAMPLING}
    return repr([task, config.task_prefix, data, [flat[key] for key in _READ]])


def _task_lines(
    config: RunConfig, task: Task, tokenizer: Any, rows: int, sizes: dict[str, int]
) -> Iterator[str]:
    prefix = f"prefix {task.prefix!r}" if config.task_prefix and task.prefix else "no prefix"
    labels = f"labels {', '.join(task.labels)}" if task.labels else "free text"
    if task.rounded and task.labels:
        labels = f"numbers from {task.labels[0]} to {task.labels[-1]}"
    yield f"{task.name}: {prefix}; {labels}; metrics {', '.join(task.metrics)}; {tokenizer.name_or_path}"
    check_decode([task], config.training.decode)
    check_labels(task, tokenizer, method=config.training.decode, max_tokens=config.data.max_target_length)
    trained: set[str] = set()
    for split in (split for split in SPLITS if split in config.splits):
        examples = load_split(task, split, config.data, prefix=config.task_prefix)
        hashes = examples.row_hashes()
        if split == "train":
            sizes[task.name], trained = len(examples), set(hashes)
        sources = Tokenized(_ids(tokenizer, examples.sources), config.data.max_source_length)
        targets = Tokenized(_ids(tokenizer, examples.targets), config.data.max_target_length)
        yield f"  {split}: {len(examples):,} rows"
        yield f"    source tokens: {_lengths(sources, 'max_source_length')}"
        yield f"    target tokens: {_lengths(targets, 'max_target_length')}"
        limit = answer_length(task, tokenizer)
        longer = sum(len(ids) > limit for ids in targets.ids)
        if longer:
            yield f"    {longer:,} targets are longer than answer_tokens={limit}: no answer can equal them"
        yield f"    answers: {_answers(task, examples)}"
        also = sum(one in trained for one in hashes)
        if split != "train" and also:
            yield f"    {also:,} of its rows are also in train"
        if split == "train":
            for row in range(min(rows, len(examples))):
                yield from _row_lines(tokenizer, examples, row, sources, targets)


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        found += tokenizer(chunk, return_attention_mask=False, verbose=False)["input_ids"]
    return found


def _lengths(texts: Tokenized, setting: str) -> str:
    lengths = np.array([len(ids) for ids in texts.ids])
    middle, most = np.percentile(lengths, [50, 95], method="higher")
    cut = int((lengths > texts.limit).sum())
    share = f"{cut:,} rows ({cut / len(lengths):.1%}) are cut at" if cut else "none is cut at"
    return f"median {middle}, 95% {most}, longest {lengths.max()}; {share} {setting}={texts.limit}"


def _answers(task: Task, examples: Examples) -> str:
    counts = Counter(examples.targets)
    known = task.labels if task.labels and not task.rounded else ()
    found = [(label, counts[label]) for label in known] or counts.most_common()
    shown = found[:_MOST_ANSWERS]
    listed = [f"{_clipped(text, 60)} {count:,} ({count / len(examples):.1%})" for text, count in shown]
    left = len(found) - len(shown)
    return ", ".join(listed) + (f", and {left:,} more" if left else "")


def _row_lines(
    tokenizer: Any, examples: Examples, row: int, sources: Tokenized, targets: Tokenized
) -> Iterator[str]:
    for what, texts, tokenized in (
        ("source", examples.sources, sources),
        ("target", examples.targets, targets),
    ):
        kept = tokenized.kept(row)
        tokens = tokenizer.convert_ids_to_tokens(kept)
        middle = [f"... {len(tokens) - _MOST_TOKENS:,} more ..."] if len(tokens) > _MOST_TOKENS else []
        shown = [*tokens[: _MOST_TOKENS - 1], *middle, *tokens[-1:]] if middle else tokens
        cut = len(tokenized.ids[row]) - len(kept)
        yield f"    row {row} {what}: {_clipped(texts[row], _MOST_CHARACTERS)}"
        yield f"      {len(kept)} tokens{f' ({cut} cut)' if cut else ''}: {_clipped(' '.join(shown), 10**6)}"


def _clipped(text: str, most: int) -> str:
    """A text as one line, in which no character does anything to the terminal."""
    line = printable(text).replace("\n", "\\n")
    return line if len(line) <= most else f"{line[:most]}... ({len(line) - most:,} more characters)"
