"""Folders of runs that are done, with made-up answers: for tests that need no training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from hyperformer.answers.answers import Answer, make_answers
from hyperformer.answers.files import write_answers
from hyperformer.data.examples import Examples, checksum_of_targets
from hyperformer.data.metrics import METRICS, average
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks import Task
from hyperformer.files import write_json


def write_run(
    folder: Path, *tasks: tuple[Task, list[tuple[str, str]]], split: str = "test", ranked: bool = False
) -> Path:
    """A run's folder with result.json and answers.

    Args:
        tasks: a task, and for each row its right answer and what the model wrote or chose.
    """
    folder.mkdir(parents=True)
    metrics, files, rows = {}, {}, {}
    for task, pairs in tasks:
        targets = [target for target, _ in pairs]
        hashes = Examples([f"row {number}" for number in range(len(pairs))], targets).row_hashes()
        given = [_answer(task, text, ranked) for _, text in pairs]
        references = _references(task, targets)
        answers = make_answers(task, split, given, targets, hashes, references)
        metrics[task.name] = answers.metrics()
        files[task.name] = write_answers(folder / "answers", answers)
        rows[f"{task.name} {split}"] = (
            f"{len(pairs)} rows, 00000000{checksum_of_targets(targets, references)}"
        )
    result: dict[str, Any] = {"signature": "0", "validation": {}, "test": {}, "inputs": {"rows": rows}}
    result |= {split: metrics, f"{split}_average": average(metrics), "answers": {split: files}}
    write_json(folder / "result.json", result)
    return folder


def _references(task: Task, targets: list[str]) -> list[Reference]:
    """Three rows a question; beside the target another right answer, and none of every fifth row if that may be."""
    if not task.has_references:
        return []
    may_be_wrong = all(METRICS[name].judges_target for name in task.metrics)
    return [
        Reference(str(row // 3), () if may_be_wrong and row % 5 == 0 else (target, f"also {target}"))
        for row, target in enumerate(targets)
    ]


def _answer(task: Task, text: str, ranked: bool) -> Answer:
    if not ranked:
        return Answer(text.strip(), text)
    return Answer(text, label_logprobs={label: -0.25 - 2 * (label != text) for label in task.labels or ()})


def example_pairs(task: Task, count: int = 40, seed: int = 0) -> list[tuple[str, str]]:
    """Right answers and answers, some of them wrong, some invalid."""
    draw = random.Random(seed)
    words = ["the cat", "a dog sat", "née “x”", "line\u2028two\ttabs", "12"]
    if task.answer == "float":
        words = ["0.5", "4.2", "3.9999999", "1e400", "nan"]
    elif task.answer == "int" and task.labels is None:
        words = ["7", "12", "1_000", "-3"]
    answers = list(task.labels or words)
    targets = [draw.choice(answers[:3]) for _ in range(count)]
    wrong = [*answers, " 1 ", "", "no label\n"]
    return [(target, draw.choice(wrong) if draw.random() < 0.4 else target) for target in targets]
