"""A few made-up rows of each data set that T5 preprocesses in its own way, with the hub's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
PASSAGE = "Anna met Bob in Oslo.\n@highlight\nShe was glad\n@highlight\nHe was not"


def _multirc(number: int) -> Row:
    """Three answers a question, two questions a paragraph."""
    question = number // 3
    return {
        "paragraph": f"<b>Sent 1: </b>Paragraph {question // 2}.<br>It goes on.",
        "question": f"question {question}?",
        "answer": f"answer {number}",
        "idx": {"paragraph": question // 2, "question": question, "answer": number},
        "label": number % 2,
    }


def _wsc(number: int) -> Row:
    return {
        "text": f"Mark told Pete many lies about number {number} , which he included in his book.",
        "span1_index": 0,
        "span2_index": 10,
        "span1_text": "Mark" if number % 2 else "Pete",
        "span2_text": "he",
        "idx": number,
        "label": number % 2,
    }


def _record(number: int) -> Row:
    answers = ["Anna"] if number % 2 else ["Bob", "Robert", "Bob"]
    return {
        "passage": PASSAGE,
        "query": f"@placeholder was glad {number} times",
        "entities": ["Anna", "Bob", "Oslo", "Robert"],
        "answers": answers,
        "idx": {"passage": 0, "query": number},
    }


def _squad(number: int) -> Row:
    return {
        "id": f"id{number}",
        "title": "Oslo",
        "context": f"Oslo (Norway) has 7.5 parks{number}.",
        "question": f"How many parks does {number} have?",
        "answers": {"text": ["7.5", "7.5 parks"], "answer_start": [18, 18]},
    }


def _copa(number: int) -> Row:
    choices = {"choice1": f"It fell {number}.", "choice2": "It rose."}
    return {"premise": "He let go.", **choices, "question": "effect", "idx": number, "label": number % 2}


def _wic(number: int) -> Row:
    texts = {
        "word": "place",
        "sentence1": f"Do you {number} want a place?",
        "sentence2": "A place at the table.",
    }
    return {**texts, "start1": 1, "start2": 2, "end1": 3, "end2": 4, "idx": number, "label": number % 2}


def _cb(number: int) -> Row:
    return {"premise": f"I know it {number}.", "hypothesis": "It is so.", "idx": number, "label": number % 3}


MAKERS = {
    "superglue-multirc": _multirc,
    "superglue-wsc": _wsc,
    "superglue-record": _record,
    "squad": _squad,
    "superglue-copa": _copa,
    "superglue-wic": _wic,
    "superglue-cb-official": _cb,
}


def write_rows(folder: Path, rows: int = 24) -> str:
    """`folder` as data_dir, with train and validation rows of every task; returns its path."""
    for task, make in MAKERS.items():
        (folder / task).mkdir(parents=True)
        for split, start in (("train", 0), ("validation", 600)):
            lines = [json.dumps(make(number)) for number in range(start, start + rows)]
            (folder / task / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)
