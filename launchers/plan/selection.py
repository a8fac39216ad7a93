"""Which runs a command means: names, globs, and ``key=value``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from contextlib import suppress

from hyperformer.errors import ConfigError, HyperformerError, nearest
from hyperformer.settings.build import coerce, flatten, settings
from hyperformer.settings.files import parse_override
from launchers.plan.runs import Plan, Run, value_text


def select(plan: Plan, words: Sequence[str]) -> list[Run]:
    """The runs whose name matches any of the names and globs and that have all of the values, in plan order.

    Raises:
        HyperformerError: a word matches no run.
    """
    globs = [word for word in words if "=" not in word]
    found = _named(plan, globs) if globs else list(plan.runs)
    for word in words:
        if "=" in word:
            found = _with_value(plan, found, word)
    return found


def _named(plan: Plan, patterns: Sequence[str]) -> list[Run]:
    found: dict[str, Run] = {}
    for pattern in patterns:
        # A name is itself first: '[...]' in it would be read as a glob.
        hits = [run for run in plan.runs if run.name == pattern or fnmatch.fnmatchcase(run.name, pattern)]
        if not hits:
            names = [run.name for run in plan.runs]
            raise HyperformerError(f"no run is named {pattern!r}{nearest(pattern, names)}")
        found.update((run.signature, run) for run in hits)
    return [run for run in plan.runs if run.signature in found]


def _with_value(plan: Plan, runs: Sequence[Run], word: str) -> list[Run]:
    key, _, wanted = word.partition("=")
    if key != "task" and key not in settings():
        raise HyperformerError(f"{word}: unknown setting {key!r}{nearest(key, ['task', *settings()])}")
    hits = [run for run in runs if wanted in _texts(run, key)]
    if not hits and key != "task":  # 1e-3 is 0.001, and a path has many spellings
        with suppress(ConfigError):
            value = coerce(*parse_override(word), word)
            value = list(value) if isinstance(value, tuple) else value
            hits = [run for run in runs if flatten(run.config)[key] == value]
    if not hits:
        there = sorted({text for run in plan.runs for text in _texts(run, key)})
        raise HyperformerError(f"no run has {word}{nearest(wanted, there)}")
    return hits


def _texts(run: Run, key: str) -> list[str]:
    if key == "task":
        return list(run.config.data.tasks)
    shown = [text for name, text in run.differs if name == key]
    return [*shown, value_text(flatten(run.config)[key])]
