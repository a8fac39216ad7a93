"""What a bundle of a sweep holds, laid out as the sweep's folder.

::

    manifest.json                  SHA-256 and size of each other file; the version that wrote it
    runs.json  plan.json  sweep.yaml
    code/<hash>/                   the copies of the code that the runs' jobs had
    code/at-bundle/                commit, diff and packages as they are now, for runs without a copy
    report/                        all files of the report
    <run>-<signature>/             config.json, inputs.json, metrics.jsonl; of a run that is done also result.json,
                                   answers/, adapter/*.json; with --weights adapter/*.safetensors
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import hyperformer
from hyperformer.errors import HyperformerError
from hyperformer.run_files.run_folder import RunFolder
from launchers.bundle.archive import Content, write_bundle
from launchers.bundle.planned_runs import RUNS, describe
from launchers.plan.plan import Plan, Run
from launchers.status.run_status import RunStatus
from launchers.store import code_snapshot, redaction
from launchers.store.ledger import Ledger
from launchers.store.records import try_record

_OF_A_RUN = ("inputs.json", "metrics.jsonl", "recovery.json")
NOW = "at-bundle"


@dataclass(frozen=True)
class Bundle:
    """What was written. `notes`: what the user must know of it, a line each."""

    path: Path
    sha256: str
    files: int
    bytes: int
    notes: tuple[str, ...]


def make_bundle(
    path: Path, ledger: Ledger, statuses: Sequence[RunStatus], with_weights: bool = False
) -> Bundle:
    """Pack a sweep whose report is up to date.

    Args:
        statuses: of the plan's runs, in order.
        with_weights: also the trained weights (``adapter/``), never checkpoints.

    Raises:
        HyperformerError: the file is there already, a file that is verified holds a secret, or a run that is done
            was started again meanwhile.
    """
    plan, collected = ledger.plan, _Files()
    collected.add(RUNS, _json(describe(plan, ledger, statuses)))
    for place in (ledger.paths.plan, ledger.paths.sweep_file):
        collected.add_file(place.name, place)
    for name, place in _files_below(ledger.paths.report):
        collected.add_file(f"report/{name}", place)
    for run, status in zip(plan.runs, statuses, strict=True):
        collected.add_run(RunFolder(ledger.folder(run)), status.state == "done", with_weights)
    notes = [*_add_code(collected, ledger, plan), *collected.notes, *_unverifiable(plan, statuses)]
    about = {
        "sweep": plan.name,
        "hyperformer": hyperformer.__version__,
        "python": platform.python_version(),
        "weights": with_weights,
    }
    digest = write_bundle(path, collected.found, about)
    return Bundle(path, digest, len(collected.found), path.stat().st_size, tuple(notes))


class _Files:
    """The content of each file by name, without secrets."""

    def __init__(self) -> None:
        self.found: dict[str, Content] = {}
        self.notes: list[str] = []
        self._hide: Callable[[bytes], bytes] = redaction.hider()

    def add(self, name: str, data: bytes, checked: bool = False) -> None:
        """Add a file; `checked`: what it says is verified, so nothing in it can be replaced."""
        hidden = self._hide(data)
        if name.endswith(".gz"):
            plain = _unpacked(data)
            hidden = data if self._hide(plain) == plain else b""
        if hidden != data and checked:
            raise HyperformerError(
                f"{name} holds what looks like a token, or the value of a variable that is named like a secret; it is "
                "verified, so it cannot be packed without that. Unset the variable if its value is no secret"
            )
        if hidden != data:
            self.notes.append(f"{name}: a secret in it was replaced by {redaction.HIDDEN.decode()}")
        self.found[name] = hidden

    def add_file(self, name: str, path: Path, checked: bool = False) -> None:
        """Add a file if it is there."""
        if path.is_file() and not redaction.is_secret_file(name):
            self.add(name, path.read_bytes(), checked)

    def add_run(self, folder: RunFolder, is_done: bool, with_weights: bool) -> None:
        """Add the files of a run, if it has a folder; no result of one that has ended since the report was made.

        Verifying recomputes what is in config.json, result.json and the answers: no secret in them can be replaced.
        """
        top = folder.path.name
        self.add_file(f"{top}/config.json", folder.config, checked=True)
        for name in _OF_A_RUN:
            self.add_file(f"{top}/{name}", folder.path / name)
        if not is_done:
            return
        self.add_file(f"{top}/result.json", folder.result, checked=True)
        if f"{top}/result.json" not in self.found:
            raise HyperformerError(
                f"{folder.path} was started again while it was packed; give the command again"
            )
        for name, path in _files_below(folder.answers):
            self.add_file(f"{top}/answers/{name}", path, checked=True)
        for name, path in _files_below(folder.adapter):
            if name.endswith(".json"):
                self.add_file(f"{top}/adapter/{name}", path)
            elif with_weights and name.endswith(".safetensors"):
                self.found[f"{top}/adapter/{name}"] = path


def _unpacked(data: bytes) -> bytes:
    with suppress(OSError, EOFError, zlib.error):  # it is damaged, which verifying tells
        return gzip.decompress(data)
    return b""


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder by relative name, temporary ones left out; of links those to files below it."""
    inside = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(place) / name
            if not name.endswith(".tmp") and path.resolve().is_relative_to(inside):
                yield str(path.relative_to(folder)), path


def _add_code(collected: _Files, ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Add the copies of the code that jobs ran; yields notes."""
    jobs = ledger.newest_jobs()
    used = {Path(jobs[run.signature].submission.code).name for run in plan.runs if run.signature in jobs}
    without = [run for run in plan.runs if run.signature not in jobs and ledger.has_folder(run)]
    for name in sorted(used):
        for inner, path in _files_below(ledger.paths.code / name):
            if inner.isprintable():  # a zip archive cannot hold other names
                collected.add_file(f"code/{name}/{inner}", path)
    if without:
        now = code_snapshot.read(code_snapshot.CODE, ledger.paths.code)
        for name, text in code_snapshot.describe(now).items():
            collected.add(f"code/{NOW}/{name}", text.encode(errors="replace"))
        yield from _other_commits(ledger, without, now.commit)


def _other_commits(ledger: Ledger, runs: Sequence[Run], now: str | None) -> Iterator[str]:
    """Runs of another commit than the one that is packed."""
    others: dict[str, list[str]] = {}
    for run in runs:
        result = try_record(ledger.folder(run) / "result.json") or {}
        if result.get("git_commit") not in (None, now):
            others.setdefault(result["git_commit"], []).append(run.name)
    for commit, names in others.items():
        told = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield f"{told} ran commit {commit}, and the code that is packed is {now}"


def _unverifiable(plan: Plan, statuses: Sequence[RunStatus]) -> Iterator[str]:
    unfinished = [run.name for run, status in zip(plan.runs, statuses, strict=True) if status.state != "done"]
    if unfinished:
        yield f"{len(unfinished)} of {len(plan.runs)} runs are not done; the report says so"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
