"""Metrics of a trained model on labelled rows: those that training computes, by the same code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperformer.answers.files import write_answer_file
from hyperformer.commands.predict import Request
from hyperformer.data.dataset import tokenize_split
from hyperformer.data.examples import make_examples
from hyperformer.data.label_checks import check_labels, notes
from hyperformer.errors import ConfigError, DataError
from hyperformer.settings.schema import DataConfig
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.ranks.distributed import DistributedContext


def run_evaluate(request: Request, answers: Path | None = None) -> dict[str, Any]:
    """What ``hyperformer evaluate`` prints.

    Args:
        answers: a file for the answers, in the form of a run's (:mod:`hyperformer.answers.files`).

    Returns:
        task, model, input, decode, rows (how many were scored), metrics in percent.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can correct; a row without label is an
            error, unless the task's row in the table says `unlabelled_rows`.
    """
    if answers is not None and not answers.parent.is_dir():
        raise ConfigError(f"--answers {answers}: there is no folder {answers.parent}")
    predictor = request.predictor()
    task, tokenizer = predictor.task, predictor.tokenizer
    if predictor.decode == "generate":  # of the other ways the predictor has checked them
        check_labels(task, tokenizer, method=predictor.decode)
    rows = request.input.rows()
    examples = make_examples(task, rows, prefix=predictor.prefix)
    if not len(examples):
        raise DataError(f"{request.input.where}: none of the {rows.count:,} rows has a label")
    limits = DataConfig(max_source_length=predictor.max_source_length)
    split = replace(tokenize_split(examples, task, tokenizer, limits), row_hashes=examples.row_hashes())
    for note in notes(task, {request.input.where: split}, tokenizer, limits):
        print(note, file=sys.stderr)
    alone = DistributedContext(rank=0, local_rank=0, size=1, device=predictor.device)
    evaluator = Evaluator(predictor.model, tokenizer, alone, request.batch_size, Decoding(predictor.decode))
    evaluation = evaluator.evaluate({task.name: task}, "rows", {task.name: split})
    if answers is not None:
        write_answer_file(answers, evaluation.answers[task.name])
    return {
        "task": task.name,
        "model": request.model,
        "input": request.input.where,
        "decode": predictor.decode,
        "rows": len(examples),
        "metrics": evaluation.metrics[task.name],
    }
