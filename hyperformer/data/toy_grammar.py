"""A small English grammar: who does what to what, where. The toy tasks are written in it.

An :class:`Event` is the meaning of a sentence; :func:`sentence` puts it in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

# Kind of thing -> members. The kind is itself a word ("an animal"), and true of more things.
KINDS = {
    "person": ["girl", "boy", "woman", "man", "doctor", "teacher", "farmer", "student"],
    "animal": ["dog", "cat", "horse", "cow", "rabbit", "goat"],
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
    ("in", "park"), ("in", "garden"), ("at", "school"), ("on", "street"),
    ("on", "beach"), ("at", "market"), ("in", "forest"), ("near", "house"),
]  # fmt: skip
ADJECTIVES = ["young", "old", "tall", "small", "happy", "quiet", "tired", "rich"]
PLURALS = {"woman": "women", "man": "men", "person": "people"}
# Words that mean the same.
SYNONYMS = {
    "small": "little", "happy": "glad", "rich": "wealthy", "quiet": "silent", "tired": "sleepy",
    "eating": "tasting", "fixing": "repairing", "buying": "purchasing", "watching": "observing",
    "washing": "cleaning", "cutting": "slicing",
}  # fmt: skip
CHILDREN = ("girl", "boy", "student")
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


def generalised(event: Event) -> Event:
    """What is true whenever the event is: 'a person', 'a fruit'."""
    return replace(event, subject="person", object=kind_of(event.object))


def with_other_kind(event: Event, rng: Random) -> Event:
    """A generalised event with another kind of object; the verb stays if it can."""
    kind = rng.choice([kind for kind in KINDS if kind not in ("person", event.object)])
    verbs = [verb for verb, forms in VERBS.items() if kind in forms[3]]
    verb = event.verb if event.verb in verbs else rng.choice(verbs)
    return replace(event, verb=verb, object=kind)


def with_other_activity(event: Event, rng: Random) -> Event:
    """The same people at the same place, with another kind of object."""
    other = with_other_kind(generalised(event), rng)
    return replace(event, verb=other.verb, object=rng.choice(KINDS[other.object]))


def with_other_people(event: Event, rng: Random, *, same_sort: bool) -> Event:
    """The event at another place, with other people: children for children, or for adults."""
    children = (event.subject in CHILDREN) == same_sort
    people = [person for person in KINDS["person"] if (person in CHILDREN) == children]
    return replace(
        event, adjective=rng.choice(ADJECTIVES), subject=rng.choice(people), place=rng.choice(PLACES)
    )


def reworded(text: str, rng: Random) -> str:
    """A sentence with most words that have a synonym replaced by it."""
    words = [SYNONYMS[word] if word in SYNONYMS and rng.random() < 0.7 else word for word in text.split()]
    return " ".join(words)


def noun_phrase(noun: str, adjective: str = "", many: bool = False) -> str:
    """'a young girl', 'an apple', 'two old women'."""
    words = f"{adjective} {noun}".strip()
    if many:
        return f"two {adjective} {PLURALS.get(noun, noun + 's')}".replace("  ", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def place_phrase(place: tuple[str, str]) -> str:
    """'in the garden'."""
    return f"{place[0]} the {place[1]}"


def finish(text: str) -> str:
    """Capital letter and full stop."""
    return text[0].upper() + text[1:] + "."


def sentence(
    event: Event, place_first: bool = False, *, negated: bool = False, slots: tuple[str, ...] = SLOTS
) -> str:
    """An event in words: 'A young girl is eating an apple in the garden.'

    Args:
        place_first: 'In the garden, a young girl ...'.
        negated: 'is not eating'.
        slots: what to mention; adjective and place may be left out.
    """
    adjective = event.adjective if "adjective" in slots else ""
    verb = f"{'are' if event.many else 'is'} {'not ' if negated else ''}{VERBS[event.verb][2]}"
    text = f"{noun_phrase(event.subject, adjective, event.many)} {verb} {noun_phrase(event.object)}"
    place = place_phrase(event.place)
    if "place" in slots:
        text = f"{place}, {text}" if place_first else f"{text} {place}"
    return finish(text)
