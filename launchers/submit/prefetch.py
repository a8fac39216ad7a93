"""Fetch what a sweep needs from the hub, on a machine that reaches it; then prove it by loading offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hyperformer.errors import HyperformerError
from hyperformer.files import read_json, write_json
from hyperformer.hub_access import cached_snapshots
from launchers.plan.plan import Run
from launchers.slurm.batch_script import OFFLINE
from launchers.store.submissions import changed_settings
from launchers.store.sweep_folder import SweepFolder


class PrefetchError(HyperformerError):
    """Something that the sweep needs cannot be had."""


def needs(runs: Iterable[Run]) -> dict[str, dict[str, object]]:
    """What the runs load, each thing once: its name -> settings of a run that loads it."""
    found: dict[str, dict[str, object]] = {}
    runs = list(runs)
    own_files = own_files_of(run.config.data.task_file for run in runs)
    for run in runs:
        model, data = run.config.model, run.config.data
        settings = changed_settings(run.config)
        weights = "config" if model.random_init else "weights"
        found.setdefault(f"model {model.model_name_or_path} ({weights})", settings)
        if model.tokenizer_name:
            found.setdefault(f"tokenizer {model.tokenizer_name}", settings)
        for task in data.tasks:
            source = "own file" if task in own_files[data.task_file] else data.data_source
            parts = [f"data set {task} ({source})"]
            parts += [data.task_file] if data.task_file else []
            splits = "reference splits" if data.reference_splits else ""
            found.setdefault(" ".join([*parts, splits]).strip(), {**settings, "only_task": task})
    return found


def own_files_of(task_files: Iterable[str | None]) -> dict[str | None, dict[str, str]]:
    """Task file -> those of its tasks whose rows are in one file of their own, and that file."""
    found: dict[str | None, dict[str, str]] = {}
    for path in set(task_files):
        found[path] = {}
        if path is not None and Path(path).is_file():
            from hyperformer.data.tasks import load_user_tasks  # numpy: too slow for the other commands

            found[path] = {task.name: task.file for task in load_user_tasks(path).values() if task.file}
    return found


def from_hub(runs: Iterable[Run]) -> list[str]:
    """The names among :func:`needs` that only the hub has."""
    found: list[str] = []
    for name, settings in needs(runs).items():
        kind = name.split(" ")[0]
        if kind == "data":
            is_remote = name.startswith(f"data set {settings['only_task']} (hub)")
        else:
            key = "tokenizer_name" if kind == "tokenizer" else "model_name_or_path"
            value = str(settings.get(key, "t5-base"))
            is_remote = value != "toy" and not Path(value).exists()
        if is_remote:
            found.append(name)
    return found


def prefetched(folder: Path) -> set[str]:
    """What was fetched for the sweep in `folder`, and proven."""
    try:
        record = read_json(SweepFolder(folder).prefetched)
    except ValueError:
        return set()
    return set(record.get("verified", ())) if isinstance(record, dict) else set()


def missing(runs: Sequence[Run], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What offline nodes would lack: not prefetched, and not in the hub's cache either."""
    have = prefetched(folder)
    return [name for name in from_hub(runs) if name not in have and not _in_cache(name, environment)]


def fetch(runs: Sequence[Run], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Load everything once with the network, then once without, each in a process of its own.

    Returns:
        The names of what is there now.

    Raises:
        PrefetchError: with every thing that cannot be loaded.
    """
    wanted = needs(runs)
    online = {**os.environ, **environment}
    for name in OFFLINE:
        online.pop(name, None)
    for variables, how in ((online, "loaded"), ({**online, **OFFLINE}, "loaded without the network")):
        faults = _load(wanted, variables)
        if faults:
            lines = "\n".join(f"- {name}: {reason}" for name, reason in faults.items())
            raise PrefetchError(f"cannot be {how}:\n{lines}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(SweepFolder(folder).prefetched, {"verified": sorted(wanted), "at": time.time()})
    return sorted(wanted)


def _load(wanted: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "hyperformer.commands.load_check"]
    code = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [code, environment.get("PYTHONPATH")]))
    done = subprocess.run(
        command, input=json.dumps(wanted), capture_output=True, text=True, check=False,
        env={**environment, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("FAULTS "):
            return dict(json.loads(line.removeprefix("FAULTS ")))
    raise PrefetchError(f"loading ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def _in_cache(name: str, environment: Mapping[str, str]) -> bool:
    """Whether the hub's cache has a model of that name. Data sets are proven by `prefetch` alone."""
    kind, _, rest = name.partition(" ")
    if kind == "data":
        return False
    return bool(cached_snapshots(rest.split(" ")[0], {**os.environ, **environment}))
