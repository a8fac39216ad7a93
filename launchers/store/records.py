"""Reading the ledger's JSON records: complete, of a known schema, with values of the right type.

A record has ``"schema": n`` if its shape changed after the first version; without
it, it is of schema 1. Unknown keys are ignored: a newer version may add some
without a new schema.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError

SCHEMA = 1


class LedgerError(HyperformerError):
    """A file of the sweep's folder cannot be understood."""


class DamagedRecord(LedgerError):
    """The file is unreadable: truncated, overwritten, or not what it should be."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why}); move it away and try again")
        self.why = why


def is_a(*types: type) -> Callable[[Any], bool]:
    """A check of a value's type; true and false are not numbers."""
    return lambda value: isinstance(value, types) and not isinstance(value, bool)


_text, _mapping = is_a(str), is_a(dict)


def _finite(value: Any) -> bool:
    return is_a(int, float)(value) and abs(value) < 1e18


def _number(value: Any) -> bool:
    """Also NaN, which a loss can be."""
    return isinstance(value, float) or _finite(value)


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _values(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A JSON object whose values are all of a type."""
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _positive(value: Any) -> bool:
    return _finite(value) and value > 0


def _inputs(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("rows", {}), dict)


def _parameters(value: Any) -> bool:
    """Counts; a run that trains nothing does not start, and a logarithmic axis has no place for it."""
    names = ("total", "trained", "trained_percent_per_task")
    return isinstance(value, dict) and all(_positive(value.get(name)) for name in names)


def _drawn(value: Any) -> bool:
    """Of a task: its training rows, its share of the draws, and rows drawn."""
    is_told = isinstance(value, dict) and all(_finite(value.get(name)) for name in ("rows", "share", "drawn"))
    return is_told and value["rows"] > 0


def _percent(value: Any) -> bool:
    """A metric: between -100 and 100, but for rounding; NaN and infinity are told apart by their readers."""
    return _number(value) and not (_finite(value) and abs(value) > 100 + 1e-6)


_metrics = _values(_values(_percent))  # {task: {metric: percent}}
_runs = _values(lambda entry: isinstance(entry, dict) and _text(entry.get("name")))

Kinds = Mapping[str, Callable[[Any], bool]]
_PROCESS: Kinds = {"cluster": _text, "job_id": _text, "host": _text}
_PROGRESS: Kinds = {"step": _finite, "max_steps": _finite, "loss": _number, "best_metric": _number}
# By file name: the types of its values, and the keys that must be there.
_KINDS: dict[str, tuple[Kinds, tuple[str, ...]]] = {
    "plan.json": ({"name": _text, "source": _text, "runs": _runs}, ("runs",)),
    "queue.json": ({"host": _text, "runs": _values(is_a(int))}, ("host", "pid", "runs")),
    "config.json": ({"signature": _text, "settings": _mapping}, ("signature", "settings")),
    "job.json": ({**_PROCESS, "gpu": _text}, ()),
    "started.json": ({**_PROCESS, "started": _finite}, ()),
    "outcome.json": (
        {"status": _text, "ended": _finite, "error_type": _text, "message": _text, "traceback_tail": _lines}
        | {"kind": _text, "then": _text, "why": _text, "host": _text, "causes": _lines}
        | dict.fromkeys(("errno", "rank", "signal", "exit_code", "step"), _finite),
        ("status",),
    ),
    "state.json": (
        {
            **_PROGRESS,
            "phase": _text,
            "seconds_left": _finite,
            "micro_batch_parts": _finite,
            "eval_rows": _finite,
        },
        ("phase",),
    ),
    "race.json": ({"pause_at": _positive}, ()),
    "result.json": (
        {"signature": _text, "test": _metrics, "validation": _metrics, "parameters": _parameters}
        | {"seconds": _values(_finite), "test_average": _percent, "validation_average": _percent}
        | {"ranks": _positive, "steps": _finite, "best_step": _finite, "peak_memory_bytes": _finite}
        | {"one_class": _values(_values(_text)), "drawn": _values(_drawn), "git_commit": _text}
        | {"inputs": _inputs, "numerics": _mapping, "versions": _mapping, "answers": _values(_mapping)},
        ("signature", "test", "validation", "parameters"),
    ),
}


def _fits(kinds: Kinds) -> Callable[[Any], bool]:
    """A JSON object whose values, where it has them, are of these types."""
    return lambda value: (
        isinstance(value, dict)
        and all(value.get(key) is None or fits(value[key]) for key, fits in kinds.items())
    )


# Of a run that is done, in its outcome.json (launchers.store.done_runs.summary). One that is damaged does not count.
SUMMARY: tuple[Kinds, tuple[str, ...]] = (
    {"signature": _text, "result": is_a(list), "is_recorded": lambda value: isinstance(value, bool)}
    | {"job": _fits({**_PROCESS, "slurm_cluster": _text, "started": _finite}), "progress": _fits(_PROGRESS)},
    ("signature", "result", "is_recorded", "job", "progress"),
)


def read_record(path: str | Path) -> dict[str, Any] | None:
    """A JSON object of the ledger, or None if the file is not there.

    Raises:
        DamagedRecord: it is not a record of its name any more.
        LedgerError: it cannot be read, or is of a newer schema.
    """
    try:
        data = _content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror}); fix that and try again") from error
    record = _parse(path, data)
    check(path, record, *_KINDS.get(os.path.basename(path), ({}, ())))
    return record


def try_record(path: Path) -> dict[str, Any] | None:
    """A record, or None also where it cannot be understood; for what is good to know, not needed."""
    try:
        return read_record(path)
    except LedgerError:
        return None


def check(path: str | Path, record: Mapping[str, Any], kinds: Kinds, needed: tuple[str, ...]) -> None:
    """See that a record is of a schema that we know, and holds what it must.

    Raises:
        DamagedRecord, LedgerError: it is not, or does not.
    """
    schema = record.get("schema", 1)
    if not isinstance(schema, int):
        raise DamagedRecord(path, f"its schema is {schema!r}")
    if schema > SCHEMA:
        raise LedgerError(
            f"{path} was written by a newer version of HyperFormer (schema {schema}, this one knows {SCHEMA}); "
            "use that version, or another --runs-dir"
        )
    for key in needed:
        if record.get(key) is None:
            raise DamagedRecord(path, f"it has no {key}")
    for key, value in record.items():
        if value is not None and key in kinds and not kinds[key](value):
            raise DamagedRecord(path, f"{key} is {repr(value)[:40]}")


def _content(path: str | Path) -> bytes:
    """The bytes of a file, in four system calls: `open` needs eight, and a status reads thousands of files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _parse(path: str | Path, data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data.decode())
        if b"\\u" in data:  # half a character cannot be printed or written again
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "it is empty" if not data.strip() else f"not JSON: {str(error)[:100]}"
        raise DamagedRecord(path, why) from error
    if not isinstance(record, dict):
        raise DamagedRecord(path, "it holds no JSON object")
    return record
