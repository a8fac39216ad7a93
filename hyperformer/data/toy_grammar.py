"""A small English grammar: who does what to what, where. The toy tasks are written in it.

An :class:`Event` is the meaning of a sentence; :func:`sentence` puts it in
words. Tasks about pairs of sentences change the event, or only the words.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from random import Random

# Kind of thing -> members. The kind is itself a word ("an animal"), and truer of more things.
KINDS = {
    "person": ["girl", "boy", "woman", "man", "doctor", "teacher", "farmer", "student", "singer", "nurse"],
    "animal": ["dog", "cat", "horse", "cow", "rabbit", "goat", "duck", "sheep"],
    "vehicle": ["car", "bus", "truck", "bike", "boat", "train"],
    "fruit": ["apple", "banana", "pear", "orange", "lemon", "peach"],
    "instrument": ["guitar", "piano", "violin", "drum", "flute", "trumpet"],
    "book": ["novel", "diary", "dictionary", "textbook"],
}
# Verb -> (third person, plural, -ing form, kinds of object it takes).
VERBS = {
    "eat": ("eats", "eat", "eating", ["fruit"]),
    "cut": ("cuts", "cut", "cutting", ["fruit"]),
    "play": ("plays", "play", "playing", ["instrument"]),
    "fix": ("fixes", "fix", "fixing", ["instrument", "vehicle"]),
    "read": ("reads", "read", "reading", ["book"]),
    "open": ("opens", "open", "opening", ["book"]),
    "feed": ("feeds", "feed", "feeding", ["animal"]),
    "chase": ("chases", "chase", "chasing", ["animal"]),
    "paint": ("paints", "paint", "painting", ["animal", "fruit", "vehicle"]),
    "wash": ("washes", "wash", "washing", ["animal", "vehicle", "fruit"]),
    "buy": ("buys", "buy", "buying", ["fruit", "vehicle", "book", "instrument"]),
    "carry": ("carries", "carry", "carrying", ["fruit", "book", "instrument"]),
    "push": ("pushes", "push", "pushing", ["vehicle"]),
    "watch": ("watches", "watch", "watching", ["animal", "vehicle"]),
}
PLACES = [
    ("in", "park"), ("in", "garden"), ("in", "kitchen"), ("at", "school"), ("on", "street"),
    ("on", "beach"), ("at", "market"), ("in", "forest"), ("near", "river"), ("at", "station"),
    ("near", "house"), ("in", "village"),
]  # fmt: skip
ADJECTIVES = ["young", "old", "tall", "small", "happy", "sad", "quiet", "friendly", "tired", "rich"]
PLURALS = {"woman": "women", "man": "men"}
# Words that say the same: swapping them changes no meaning.
SYNONYMS = {
    "small": "little", "happy": "glad", "rich": "wealthy", "quiet": "silent", "tired": "sleepy",
    "doctor": "physician", "student": "pupil", "car": "automobile", "bike": "bicycle", "boat": "ship",
    "rabbit": "bunny", "street": "road", "forest": "woods", "house": "home", "fixing": "repairing",
    "buying": "purchasing", "watching": "observing", "carrying": "holding", "washing": "cleaning",
}  # fmt: skip
SLOTS = ("adjective", "subject", "verb", "object", "place")


@dataclass(frozen=True)
class Event:
    """The meaning of a sentence. `subject` and `object` may be a kind (a hypernym) or a member."""

    adjective: str
    subject: str
    verb: str
    object: str
    place: tuple[str, str]
    many: bool
    """Two subjects instead of one."""


def kind_of(noun: str) -> str:
    """The hypernym of a noun: 'dog' -> 'animal'."""
    return next(kind for kind, members in KINDS.items() if noun in members)


def random_event(rng: Random) -> Event:
    """Any event the grammar knows."""
    verb = rng.choice(list(VERBS))
    return Event(
        adjective=rng.choice(ADJECTIVES),
        subject=rng.choice(KINDS["person"]),
        verb=verb,
        object=rng.choice(KINDS[rng.choice(VERBS[verb][3])]),
        place=rng.choice(PLACES),
        many=rng.random() < 0.3,
    )


def change(event: Event, slot: str, rng: Random) -> Event:
    """The event with another filler in one slot; what results still makes sense."""
    if slot == "verb":
        kind = kind_of(event.object)
        choices = [verb for verb, forms in VERBS.items() if kind in forms[3]]
    elif slot in ("subject", "object"):
        choices = KINDS[kind_of(getattr(event, slot))]
    else:
        choices = ADJECTIVES if slot == "adjective" else PLACES  # type: ignore[assignment]
    other = rng.choice([value for value in choices if value != getattr(event, slot)])
    return dataclasses.replace(event, **{slot: other})


def noun_phrase(noun: str, adjective: str = "", many: bool = False) -> str:
    """'a young girl', 'an apple', 'two old women'."""
    words = f"{adjective} {noun}".strip()
    if many:
        plural = PLURALS.get(noun) or (
            "people" if noun == "person" else noun if noun == "sheep" else noun + "s"
        )
        return f"two {adjective} {plural}".replace("  ", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def place_phrase(place: tuple[str, str]) -> str:
    """'in the garden'."""
    return f"{place[0]} the {place[1]}"


def finish(text: str) -> str:
    """Capital letter and full stop."""
    return text[0].upper() + text[1:] + "."


def synonymous(text: str, rng: Random, count: int) -> str:
    """Up to `count` words of `text` replaced by their synonyms; articles follow."""
    words = text.split()
    for index in rng.sample(range(len(words)), len(words)):
        plural = words[index].endswith("s") and words[index][:-1] in SYNONYMS
        base = words[index][:-1] if plural else words[index]
        if count and base in SYNONYMS and SYNONYMS[base] not in words:
            words[index] = SYNONYMS[base] + ("s" if plural else "")
            count -= 1
            if index and words[index - 1] in ("a", "an"):
                words[index - 1] = "an" if words[index][0] in "aeiou" else "a"
    return " ".join(words)


def sentence(
    event: Event,
    rng: Random,
    *,
    synonyms: int = 0,
    place_first: bool = False,
    negated: bool = False,
    slots: tuple[str, ...] = SLOTS,
) -> str:
    """An event in words: 'A young girl is eating an apple in the garden.'

    Args:
        synonyms: how many words to replace by synonyms, where they have some.
        place_first: 'In the garden, a young girl ...'.
        negated: 'is not eating'.
        slots: what to mention; adjective and place may be left out.
    """
    adjective = event.adjective if "adjective" in slots else ""
    verb = f"{'are' if event.many else 'is'} {'not ' if negated else ''}{VERBS[event.verb][2]}"
    text = f"{noun_phrase(event.subject, adjective, event.many)} {verb} {noun_phrase(event.object)}"
    place = place_phrase(event.place) if "place" in slots else ""
    text = synonymous(f"{text} {place}".strip(), rng, synonyms)
    if place_first and place:
        words = text.split()
        text = f"{' '.join(words[-3:])}, {' '.join(words[:-3])}"
    return finish(text)
