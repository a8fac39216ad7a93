"""The built-in toy tasks: generated rows, the same on every machine, that a tiny model can learn.

=================  ==================================================================
toy-sentiment      is the review positive? A word list, with negation and "but"
toy-entailment     does sentence 2 follow? "A person eats a fruit" does from "A boy
                   eats a pear"; another kind of thing and a negation do not
toy-paraphrase     the same in other words (synonyms, order)? Else who or what differs
toy-acceptability  is it English? Agreement, word order, verb forms
toy-similarity     0.0 to 5.0, by what the sentences share: sort of activity, of people
=================  ==================================================================

No row of one split is a row of another; classes are balanced exactly in every
split. :func:`pretraining_text` is text in the same grammar, for the toy T5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from hyperformer.data import toy_grammar as grammar
from hyperformer.errors import DataError, nearest

SPLIT_SIZES = {"train": 2_000, "validation": 200, "test": 400}
"""Rows of every toy task."""

GOOD = ["great", "good", "wonderful", "lovely", "excellent", "funny", "brilliant", "charming", "perfect"]
BAD = ["bad", "awful", "terrible", "boring", "dull", "poor", "horrible", "weak", "ugly"]
THINGS = {
    "film": ["story", "acting", "ending", "music"],
    "restaurant": ["food", "soup", "service", "menu"],
    "hotel": ["room", "bed", "breakfast", "view"],
    "concert": ["band", "sound", "stage", "voice"],
}
ADVERBS = ["", "very ", "really ", "quite ", "so "]
# Score, same sort of activity?, same sort of people?
SIMILARITIES = [(0.4, False, False), (1.8, False, True), (3.2, True, False), (4.8, True, True)]

Row = dict[str, Any]


def opinions(thing: str, polarities: list[bool], rng: Random) -> list[str]:
    """One clause for each polarity, each about another part of the thing: 'the soup was not good'."""
    clauses = []
    for part, positive in zip(rng.sample([thing, *THINGS[thing]], len(polarities)), polarities, strict=True):
        negated = rng.random() < 0.3
        word = rng.choice(GOOD if positive != negated else BAD)
        subject = f"{rng.choice(['the', 'this'])} {thing}"
        if part != thing:
            subject = rng.choice([f"the {part}", f"the {part} of {subject}"])
        clauses.append(f"{subject} was {'not ' if negated else rng.choice(ADVERBS)}{word}")
    return clauses


def sentiment(label: int, rng: Random) -> Row:
    """1: positive. What counts is after "but"."""
    thing, positive = rng.choice(list(THINGS)), label == 1
    form = rng.randrange(3)
    if form == 0:
        text = opinions(thing, [positive], rng)[0]
    elif form == 1:
        text = " and ".join(opinions(thing, [positive, positive], rng))
    else:
        text = ", but ".join(opinions(thing, [not positive, positive], rng))
    return {"sentence": grammar.finish(text)}


def entailment(label: int, rng: Random) -> Row:
    """0: sentence 2 follows from sentence 1, being more general; 1: it does not (the labels of RTE)."""
    event = grammar.random_event(rng)
    claim = grammar.generalised(event)
    negated = label == 1 and rng.random() < 0.4
    if label == 1 and not negated:
        claim = grammar.with_other_kind(claim, rng)
    slots = ("subject", "verb", "object", *rng.sample(["place"], rng.randrange(2)))
    return {
        "premise": grammar.sentence(event, rng.random() < 0.2),
        "hypothesis": grammar.sentence(claim, negated=negated, slots=slots),
    }


def paraphrase(label: int, rng: Random) -> Row:
    """1: the same in other words; 0: other people, or the same people do something else."""
    first = second = grammar.random_event(rng)
    if label == 0 and rng.random() < 0.3:
        second = replace(grammar.with_other_people(first, rng, same_sort=False), place=first.place)
    elif label == 0:
        second = grammar.with_other_activity(first, rng)
    place_first = rng.random() < 0.5
    return {
        "sentence1": grammar.sentence(first, place_first),
        "sentence2": grammar.reworded(grammar.sentence(second, not place_first), rng),
    }


def acceptability(label: int, rng: Random) -> Row:
    """1: grammatical; 0: one thing is wrong."""
    event = grammar.random_event(rng)
    third, plural, ing, _ = grammar.VERBS[event.verb]
    auxiliary, other = ("are", "is") if event.many else ("is", "are")
    if rng.random() < 0.5:  # 'is eating': what may go wrong with it
        verb, disagreeing, malformed = f"{auxiliary} {ing}", f"{other} {ing}", f"{auxiliary} {plural}"
    elif event.many:
        verb, disagreeing, malformed = plural, third, ing
    else:
        verb, disagreeing, malformed = third, plural, ing
    fault = rng.choice(["agreement", "order", "form"]) if label == 0 else ""
    written = {"agreement": disagreeing, "form": malformed}.get(fault, verb)
    text = grammar.sentence(event).replace(f" {auxiliary} {ing} ", f" {written} ")
    if fault == "order":
        words = text[:-1].split()
        at = rng.randrange(1, len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
        text = " ".join(words) + "."
    return {"sentence": text}


def similarity(label: int, rng: Random) -> Row:
    """Points for the same sort of activity and of people; `label` is an index into SIMILARITIES."""
    score, same_activity, same_people = SIMILARITIES[label]
    first = second = grammar.random_event(rng)
    if not same_activity:
        second = grammar.with_other_activity(second, rng)
    second = grammar.with_other_people(second, rng, same_sort=same_people)
    return {"sentence1": grammar.sentence(first), "sentence2": grammar.sentence(second), "label": score}


# Task -> (its generator, how many classes).
GENERATORS: dict[str, tuple[Callable[[int, Random], Row], int]] = {
    "toy-sentiment": (sentiment, 2),
    "toy-entailment": (entailment, 2),
    "toy-paraphrase": (paraphrase, 2),
    "toy-acceptability": (acceptability, 2),
    "toy-similarity": (similarity, 4),
}


class Passage(NamedTuple):
    """A text, and what someone says after reading it ("" if nothing)."""

    text: str
    remark: str = ""


# Task -> for each label, such remarks.
REMARKS: dict[str, list[list[str]]] = {
    "toy-sentiment": [["I hated it.", "I would not go again."], ["I liked it.", "I would go again."]],
    "toy-entailment": [
        ["So that is true.", "Yes, it follows."],
        ["So that is false.", "No, it does not follow."],
    ],
    "toy-paraphrase": [["That is not the same.", "They differ."], ["That is the same.", "They agree."]],
    "toy-acceptability": [["That sounds wrong."], ["That sounds right."]],
    "toy-similarity": [
        ["Nothing is alike."],
        ["The people are alike."],
        ["The activity is alike."],
        ["All is alike."],
    ],
}


def toy_rows(task: str, split: str) -> list[Row]:
    """The rows of one split of a toy task, always the same.

    Returns:
        one dict for each row: the text columns and `label` (int; toy-similarity: float 0 to 5).

    Raises:
        DataError: there is no such toy task or split.
    """
    if task not in GENERATORS:
        raise DataError(f"There is no toy task {task!r}{nearest(task, GENERATORS)}")
    if split not in SPLIT_SIZES:
        raise DataError(f"Toy task {task!r} has no split {split!r}; there are: {', '.join(SPLIT_SIZES)}")
    generate, classes = GENERATORS[task]
    rng = Random(f"hyperformer {task}")
    seen: set[tuple] = set()
    rows: list[Row] = []
    while len(rows) < sum(SPLIT_SIZES.values()):
        label = len(rows) % classes
        row = {"label": label} | generate(label, rng)
        if _texts(row) not in seen:
            seen.add(_texts(row))
            rows.append(row)
    before = list(SPLIT_SIZES)[: list(SPLIT_SIZES).index(split)]
    start = sum(SPLIT_SIZES[name] for name in before)
    chosen = rows[start : start + SPLIT_SIZES[split]]
    Random(split).shuffle(chosen)
    return chosen


def pretraining_text(count: int, seed: int) -> list[Passage]:
    """Text to pre-train a tiny model on: reviews, pairs of sentences, remarks about them, numbers.

    Millions of rows of plain text teach a large model how words and sentences relate. A model this small learns
    it from remarks that say it ("That is the same."). No passage with a remark is about a validation or test row,
    and none holds a task's answer.

    Args:
        count: how many passages; one to three sentences each.
    """
    rng = Random(f"hyperformer pretraining {seed}")
    held_out = {
        _texts(row)
        for task in GENERATORS
        for split in ("validation", "test")
        for row in toy_rows(task, split)
    }
    made: list[Passage] = []
    while len(made) < count:
        task = rng.choice(list(GENERATORS))
        generate, classes = GENERATORS[task]
        label = rng.randrange(classes)
        row = generate(label, rng)
        if _texts(row) in held_out:
            continue
        form = rng.randrange(12)
        if form == 0:
            made.append(Passage(_numbers(rng)))
        elif form == 1:  # as the tasks' prompts have it, so that their words are not new
            named = " ".join(f"{name}: {text}" for name, text in row.items() if name != "label")
            made.append(Passage(f"{task} {named}" if rng.random() < 0.5 else named))
        elif form < 4:
            made.append(Passage(" ".join(_texts(row))))
        else:
            made.append(Passage(" ".join(_texts(row)), rng.choice(REMARKS[task][label])))
    return made


def _texts(row: Row) -> tuple[str, ...]:
    return tuple(text for name, text in row.items() if name != "label")


def _numbers(rng: Random) -> str:
    event = grammar.random_event(rng)
    who = grammar.noun_phrase(event.subject, event.adjective)
    number = f"{rng.randrange(6)}.{rng.randrange(10)}"
    return grammar.finish(
        rng.choice(
            [
                f"{who} has {rng.randrange(10)} {rng.choice(['books', 'dogs', 'cars', 'apples'])}",
                f"the {event.object} costs {number} dollars",
                f"the distance is {number} miles",
            ]
        )
    )
