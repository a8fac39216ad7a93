"""Metrics of a trained model on labelled rows: those that training computes, by the same code."""

from __future__ import annotations

import sys
from typing import Any

from hyperformer.commands.predict import Request
from hyperformer.data.dataset import tokenize_split
from hyperformer.data.examples import make_examples
from hyperformer.data.label_checks import check_labels, notes
from hyperformer.errors import DataError
from hyperformer.settings.schema import DataConfig
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.ranks.distributed import DistributedContext


def run_evaluate(request: Request) -> dict[str, Any]:
    """What ``hyperformer evaluate`` prints.

    Returns:
        task, model, input, decode, rows (how many were scored), metrics in percent.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can correct; a row without label is an
            error, unless the task's row in the table says `unlabelled_rows`.
    """
    predictor = request.predictor()
    task, tokenizer = predictor.task, predictor.tokenizer
    check_labels(task, tokenizer, method=request.decode)
    rows = request.input.rows()
    examples = make_examples(task, rows, prefix=predictor.prefix)
    if not len(examples):
        raise DataError(f"{request.input.where}: none of the {rows.count:,} rows has a label")
    limits = DataConfig(max_source_length=predictor.max_source_length)
    split = tokenize_split(examples, task, tokenizer, limits)
    for note in notes(task, {request.input.where: split}, tokenizer, limits):
        print(note, file=sys.stderr)
    alone = DistributedContext(rank=0, local_rank=0, size=1, device=predictor.device)
    evaluator = Evaluator(predictor.model, tokenizer, alone, request.batch_size, Decoding(request.decode))
    return {
        "task": task.name,
        "model": request.model,
        "input": request.input.where,
        "decode": request.decode,
        "rows": len(examples),
        "metrics": evaluator.metrics({task.name: task}, {task.name: split})[task.name],
    }
