"""Which runs a command means: names, globs, and ``key=value``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from contextlib import suppress

from hyperformer.errors import ConfigError, HyperformerError, nearest
from hyperformer.settings.build import flatten
from hyperformer.settings.config_files import parse_override
from hyperformer.settings.values import coerce, settings
from launchers.plan.plan import Plan, Run
from launchers.plan.run_names import value_text


def select_runs(plan: Plan, words: Sequence[str]) -> list[Run]:
    """The runs whose name matches any of the names and globs and that have all of the values, in plan order.

    Raises:
        HyperformerError: a word matches no run, or no run matches all; or a word is not text.
    """
    for word in words:
        if not isinstance(word, str):
            raise HyperformerError(
                f"{word!r} selects no runs: give each name or key=value as a text of its own"
            )
    globs = [word for word in words if "=" not in word]
    found = _named(plan, globs) if globs else list(plan.runs)
    for word in words:
        if "=" in word:
            having = {run.signature for run in _with_value(plan, word)}
            found = [run for run in found if run.signature in having]
    if not found:
        raise HyperformerError(f"no run matches all of: {'  '.join(words)}{_several_values(words)}")
    return found


def _several_values(words: Sequence[str]) -> str:
    keys = [word.partition("=")[0] for word in words if "=" in word]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    return (
        f"; for several values of {twice}, name the runs, or give the command once for each" if twice else ""
    )


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


def _with_value(plan: Plan, word: str) -> list[Run]:
    key, _, wanted = word.partition("=")
    if key != "task" and key not in settings():
        raise HyperformerError(f"{word}: unknown setting {key!r}{nearest(key, ['task', *settings()])}")
    hits = [run for run in plan.runs if wanted in _texts(run, key)]
    if not hits and key != "task":  # 1e-3 is 0.001, and a path has many spellings
        with suppress(ConfigError):
            value = coerce(*parse_override(word), word)
            value = list(value) if isinstance(value, tuple) else value
            hits = [run for run in plan.runs if flatten(run.config)[key] == value]
    if not hits:
        there = sorted({text for run in plan.runs for text in _texts(run, key)})
        equal = next((text for text in there if _is_same_number(text, wanted)), None)
        hint = f"; did you mean '{key}={equal}'?" if equal else nearest(wanted, there)
        raise HyperformerError(f"no run has {word}{hint}")
    return hits


def _is_same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _texts(run: Run, key: str) -> list[str]:
    if key == "task":
        return list(run.config.data.tasks)
    shown = [text for name, text in run.differs if name == key]
    return [*shown, value_text(flatten(run.config)[key])]
