"""The built-in toy tasks: generated rows, the same on every machine, that a tiny model can learn.

=================  ==================================================================
toy-sentiment      is the review positive? A word list, with negation and "but"
toy-entailment     does sentence 2 follow? Hypernyms and left-out details do; negation
                   and a changed word do not
toy-paraphrase     same meaning? Synonyms and word order against one changed word
toy-acceptability  is it English? Agreement, word order, articles, verb forms
toy-similarity     0.0 to 5.0, by which parts of the event two sentences share
=================  ==================================================================

No row of one split is a row of another; classes are balanced exactly in every
split. :func:`pretraining_text` is unlabelled text in the same grammar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from hyperformer.data import toy_grammar as grammar
from hyperformer.errors import DataError, nearest

SPLIT_SIZES = {"train": 2_000, "validation": 200, "test": 400}
"""Rows of every toy task."""

GOOD = [
    "great",
    "good",
    "wonderful",
    "lovely",
    "excellent",
    "funny",
    "brilliant",
    "charming",
    "perfect",
    "fine",
]
BAD = ["bad", "awful", "terrible", "boring", "dull", "poor", "horrible", "weak", "silly", "ugly"]
THINGS = {
    "film": ["story", "acting", "ending", "music"],
    "restaurant": ["food", "soup", "service", "menu"],
    "hotel": ["room", "bed", "breakfast", "view"],
    "concert": ["band", "sound", "stage", "voice"],
}
ADVERBS = ["", "very ", "really ", "quite ", "so "]
# How much of the 5 points each shared part of the event is worth.
SIMILARITY_POINTS = {"adjective": 0.4, "subject": 1.2, "verb": 1.4, "object": 1.2, "place": 0.8}

Row = dict[str, Any]


def opinions(thing: str, polarities: list[bool], rng: Random) -> list[str]:
    """One clause a polarity, each about another part of the thing: 'the soup was not good'."""
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
    """1: positive. After "but" comes what counts."""
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
    """0: sentence 2 follows from sentence 1; 1: it does not (the labels of RTE)."""
    event = grammar.random_event(rng)
    premise = grammar.sentence(event, rng)
    claim = event
    for slot in rng.sample(["subject", "object"], rng.randrange(3)):
        claim = dataclasses.replace(claim, **{slot: grammar.kind_of(getattr(claim, slot))})
    slots = tuple(slot for slot in grammar.SLOTS if slot not in ("adjective", "place") or rng.random() < 0.5)
    negated = False
    if label == 1:
        changeable = [slot for slot in slots if getattr(claim, slot) not in grammar.KINDS]
        if claim.object in grammar.KINDS:
            changeable.remove("verb")
        negated = not changeable or rng.random() < 0.3
        if not negated:
            claim = grammar.change(claim, rng.choice(changeable), rng)
    return {"premise": premise, "hypothesis": grammar.sentence(claim, rng, negated=negated, slots=slots)}


def paraphrase(label: int, rng: Random) -> Row:
    """1: the two sentences say the same."""
    first = second = grammar.random_event(rng)
    if label == 0:
        second = grammar.change(first, rng.choice(grammar.SLOTS), rng)
    return {
        "sentence1": grammar.sentence(first, rng, place_first=rng.random() < 0.3),
        "sentence2": grammar.sentence(second, rng, synonyms=rng.randrange(3), place_first=rng.random() < 0.3),
    }


def acceptability(label: int, rng: Random) -> Row:
    """1: grammatical; 0: one thing is wrong."""
    event = grammar.random_event(rng)
    text = grammar.sentence(event, rng)
    present = rng.random() < 0.5
    third, plural, ing, _ = grammar.VERBS[event.verb]
    auxiliary = "are" if event.many else "is"
    good, wrong = (plural, third) if event.many else (third, plural)
    if present:
        text = text.replace(f"{auxiliary} {ing}", good)
    if label == 0:
        fault = rng.randrange(3)
        if fault == 0:  # agreement of subject and verb
            text = (
                text.replace(f" {good} ", f" {wrong} ")
                if present
                else text.replace(f" {auxiliary} ", f" {'is' if event.many else 'are'} ")
            )
        elif fault == 1:  # two neighbours change places
            words = text[:-1].split()
            at = rng.randrange(1, len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
            text = " ".join(words) + "."
        else:  # a form of the verb that its place does not allow
            text = (
                text.replace(f" {good} ", f" {ing} ") if present else text.replace(f" {ing} ", f" {plural} ")
            )
    return {"sentence": text}


def similarity(label: int, rng: Random) -> Row:
    """Points for every part of the event that the sentences share; `label` parts differ."""
    first = second = grammar.random_event(rng)
    score = 5.0
    for slot in rng.sample(grammar.SLOTS, label):
        second = grammar.change(second, slot, rng)
        score -= SIMILARITY_POINTS[slot]
    return {
        "sentence1": grammar.sentence(first, rng),
        "sentence2": grammar.sentence(second, rng, place_first=rng.random() < 0.2),
        "label": round(max(score, 0.0), 1),
    }


# Task -> (its generator, how many classes; for similarity, how many parts may differ, plus one).
GENERATORS: dict[str, tuple[Callable[[int, Random], Row], int]] = {
    "toy-sentiment": (sentiment, 2),
    "toy-entailment": (entailment, 2),
    "toy-paraphrase": (paraphrase, 2),
    "toy-acceptability": (acceptability, 2),
    "toy-similarity": (similarity, 6),
}


def toy_rows(task: str, split: str) -> list[Row]:
    """The rows of one split of a toy task, always the same.

    Returns:
        one dict a row: the text columns and `label` (int; toy-similarity: float 0 to 5).

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
        text = tuple(value for name, value in row.items() if name != "label")
        if text not in seen:
            seen.add(text)
            rows.append(row)
    before = list(SPLIT_SIZES)[: list(SPLIT_SIZES).index(split)]
    start = sum(SPLIT_SIZES[name] for name in before)
    chosen = rows[start : start + SPLIT_SIZES[split]]
    Random(split).shuffle(chosen)
    return chosen


def _review(rng: Random) -> str:
    positive = rng.random() < 0.5
    thing = rng.choice(list(THINGS))
    first = sentiment(int(positive), rng)["sentence"]
    verdict = rng.choice(
        ["I liked it.", "I would go again."] if positive else ["I hated it.", "I would not go again."]
    )
    second = grammar.finish(opinions(thing, [positive], rng)[0])
    return f"{first} {rng.choice([second, verdict])}"


def _story(rng: Random) -> str:
    event = grammar.random_event(rng)
    first = grammar.sentence(event, rng, synonyms=rng.randrange(2), place_first=rng.random() < 0.3)
    form = rng.randrange(4)
    if form == 0:  # the same in other words
        second = grammar.sentence(event, rng, synonyms=rng.randrange(3), place_first=rng.random() < 0.3)
    elif form == 1:  # the same in general
        slot = rng.choice(["subject", "object"])
        general = dataclasses.replace(event, **{slot: grammar.kind_of(getattr(event, slot))})
        second = grammar.sentence(general, rng, slots=("subject", "verb", "object"))
    elif form == 2:  # something close
        second = grammar.sentence(grammar.change(event, rng.choice(grammar.SLOTS), rng), rng)
    else:
        second = grammar.sentence(grammar.random_event(rng), rng)
    return f"{first} {second}"


def _numbers(rng: Random) -> str:
    event = grammar.random_event(rng)
    who = grammar.noun_phrase(event.subject, event.adjective)
    return rng.choice(
        [
            grammar.finish(
                f"{who} has {rng.randrange(10)} {rng.choice(['books', 'dogs', 'cars', 'apples'])}"
            ),
            grammar.finish(f"the {event.object} costs {rng.randrange(6)}.{rng.randrange(10)} dollars"),
            grammar.finish(f"the distance is {rng.randrange(6)}.{rng.randrange(10)} miles"),
        ]
    )


def _prompted(rng: Random) -> str:
    """Unlabelled text in the tasks' own prompts, so that their words are not new to the model."""
    task = rng.choice(list(GENERATORS))
    generate, classes = GENERATORS[task]
    row = generate(rng.randrange(classes), rng)
    prompt = " ".join(f"{name}: {text}" for name, text in row.items() if name != "label")
    return f"{task} {prompt}" if rng.random() < 0.5 else prompt


def pretraining_text(lines: int, seed: int) -> list[str]:
    """Unlabelled text to pre-train a tiny model on: reviews, pairs of related sentences, numbers.

    Args:
        lines: how many lines; one or two sentences each.
    """
    return list(_lines(lines, Random(f"hyperformer pretraining {seed}")))


def _lines(lines: int, rng: Random) -> Iterator[str]:
    kinds = rng.choices([_review, _story, _numbers, _prompted], weights=[3, 5, 1, 3], k=lines)
    for make in kinds:
        yield make(rng)
