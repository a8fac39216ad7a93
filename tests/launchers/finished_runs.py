"""Runs whose files say that they have ended, without a training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweep_command import result_of

from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import flatten
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature
from launchers.api import Sweep
from launchers.store.attempts import Attempt, Outcome

Score = Callable[[Mapping[str, Any], str], float]


def finish(sweep: Sweep, score: Score = lambda flat, task: 50.0) -> None:
    """Have the runs of a sweep end well; `score`: flat settings, task -> validation, percent."""
    for run in sweep.plan.runs:
        result = result_of(run)
        tasks, flat = run.config.data.tasks, flatten(run.config)
        result["validation"] = {task: {"acc": score(flat, task)} for task in tasks}
        leave(sweep.ledger.new_attempt(run).run_folder, run.config, result)


def leave(folder: Path, config: RunConfig, result: dict[str, Any]) -> None:
    """What a run that ended well leaves."""
    (folder / "adapter").mkdir()
    record = {
        "adapter_settings": asdict(config.adapter),
        "tasks": list(config.data.tasks),
        "base_fingerprint": "x",
        "base_sizes": {},
        "base_model_name_or_path": config.model.model_name_or_path,
        "weights_sha256": hashlib.sha256(signature(config).encode()).hexdigest(),
    }
    write_json(folder / "adapter" / "hyperformer_adapter.json", record)
    (folder / "adapter" / "hyperformer_adapter.safetensors").write_text(signature(config))
    write_json(folder / "result.json", result)


class StartsHere:
    """In place of what starts runs on this machine: `run` is made of each attempt, and is all there is of it."""

    run: Callable[[Attempt], Any]

    def __init__(self, *_: Any) -> None: ...

    def is_ready(self) -> bool:
        return True

    def start(self, attempt: Attempt, gpu: str | None) -> Any:
        return type(self).run(attempt)

    def close(self) -> None: ...


class FakeLocalRun:
    """The run has ended when it was started. One of seed 13 fails, once."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, folder = attempt, attempt.run_folder
        write_json(attempt.job_file, {"schema": 1, "cluster": "local", "job_id": "1"})
        config = RunFolder(folder).read_config()
        if config.seed == 13 and attempt.number == 1:
            attempt.write_outcome(Outcome("failed", "row 7 has no label", error_type="DataError"))
            return
        metrics = {task: {"acc": 50.0} for task in config.data.tasks}
        numbers = {"total": 10, "trained": 1, "trained_percent_per_task": 10.0}
        result = {
            "signature": signature(config),
            "test": metrics,
            "validation": metrics,
            "parameters": numbers,
        }
        leave(folder, config, result)
        attempt.write_outcome(Outcome("done"))

    def done(self) -> bool:
        return True


class FakeStarter(StartsHere):
    run = FakeLocalRun
