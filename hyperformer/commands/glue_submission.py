"""``hyperformer predict --glue-submission``: the files that GLUE's server takes, from a trained model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from hyperformer.adapters.trained_model import TrainedModel, load_trained
from hyperformer.answers.glue import load_sets, sets_of, still_missing, write_submission
from hyperformer.commands.predict import Predictor, check_batch_size
from hyperformer.data.examples import make_sources
from hyperformer.data.readers.rows import Rows
from hyperformer.data.tasks import TASKS
from hyperformer.errors import ConfigError


@dataclass(frozen=True)
class Submission:
    """What a submission is made of.

    Attributes:
        model, base, decode, batch_size: as in :class:`hyperformer.commands.predict.Request`.
        folder: for the files; those of other models may be in it.
        task: the one task to answer; None: all of the model's that are GLUE's.
        data_dir: as in :func:`load_sets`.
    """

    model: str
    folder: Path
    task: str | None = None
    data_dir: str | None = None
    base: str | None = None
    decode: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)


def run_submission(wanted: Submission) -> None:
    """Answer every GLUE test set of the model's tasks, and write a file for each.

    All test sets are checked before the first is answered.

    Raises:
        ConfigError: none of the tasks is GLUE's, or a file is there already.
        DataError: a test set is missing or is not GLUE's, or an answer is none that GLUE takes.
    """
    trained = load_trained(wanted.model, wanted.base)
    tasks = [wanted.task] if wanted.task is not None else trained.model.config.tasks
    if not tasks:
        raise ConfigError(f"{wanted.model} does not say which tasks it was trained on: name one with --task")
    sets = sets_of(tasks)
    predictors = {one.task: _predictor(wanted, trained, one.task) for one in sets}
    there = [one.file for one in sets if (wanted.folder / one.file).exists()]
    if there:
        raise ConfigError(
            f"{wanted.folder} has {', '.join(there)} already; move them away, or name another folder"
        )
    rows = load_sets(sets, wanted.data_dir)
    for one, of_set in zip(sets, rows, strict=True):
        answers = _answers(predictors[one.task], of_set, wanted.batch_size)
        print(f"{write_submission(one, answers, wanted.folder)}: {len(answers):,} answers")
    for predictor in predictors.values():
        if predictor.truncated:
            cut = f"{predictor.truncated:,} sources of {predictor.task.name} were cut"
            print(f"{cut} at {predictor.max_source_length} tokens", file=sys.stderr)
    missing = still_missing(wanted.folder)
    if missing:
        print(f"a submission also needs {', '.join(missing)}")


def _predictor(wanted: Submission, trained: TrainedModel, task: str) -> Predictor:
    predictor = Predictor(trained, task, decode=wanted.decode)
    if predictor.task != TASKS[task]:
        raise ConfigError(
            f"task {task!r} of {wanted.model} is one of your own by that name: what its labels mean to GLUE is unknown"
        )
    return predictor


def _answers(predictor: Predictor, rows: Rows, batch_size: int) -> list[str]:
    sources = make_sources(predictor.task, rows, prefix=predictor.prefix)
    starts = range(0, len(sources), batch_size)
    return [text for start in starts for text in predictor.answers(sources[start : start + batch_size])]
