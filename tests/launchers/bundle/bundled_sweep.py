"""A small sweep whose runs are done and kept made-up answers, and bundles that somebody has changed."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finished_runs import leave

from hyperformer.answers.answers import Answer, make_answers
from hyperformer.answers.files import write_answers
from hyperformer.data.examples import checksum_of_targets
from hyperformer.data.metrics import average
from hyperformer.data.tasks import TASKS
from launchers.api import Sweep
from launchers.bundle.archive import MANIFEST, write_bundle
from launchers.plan.plan import Run

TEXT = """
name: small
variants: [finetune, finetune_single_task]
tasks: [rte, mrpc]
grid: {learning_rate: [1e-3, 3e-4], seed: [1, 2]}
select: {over: [learning_rate]}
columns: [rte, mrpc acc]
"""
ROWS = 40
MACHINE = {"device": "a CPU", "torch": "2", "instructions": "AVX2", "threads": 1}
LINES = [{"step": step, "split": "train", "loss": 2.5 / step, "learning_rate": 1e-3} for step in (10, 20, 30)]
Change = Callable[[bytes], bytes | None]


def finish_with_answers(sweep: Sweep) -> None:
    """Have all runs of a sweep end well, with answers to both splits."""
    sweep.ledger.commit("local")
    for run in sweep.plan.runs:
        _finish(sweep.ledger.new_attempt(run).run_folder, run)


def _finish(folder: Path, run: Run) -> None:
    metrics: dict[str, dict[str, Any]] = {"validation": {}, "test": {}}
    files: dict[str, dict[str, Any]] = {"validation": {}, "test": {}}
    rows = {}
    for split in metrics:
        for name in run.config.data.tasks:
            draw = random.Random(f"{run.name} {name} {split}")
            targets = [str(random.Random(f"{split} {row}").randrange(2)) for row in range(ROWS)]
            texts = [right if draw.random() < 0.7 else str(1 - int(right)) for right in targets]
            hashes = [f"{row:016x}" for row in range(ROWS)]
            answers = make_answers(
                TASKS[name], split, [Answer(text, text) for text in texts], targets, hashes
            )
            files[split][name] = write_answers(folder / "answers", answers)
            metrics[split][name] = answers.metrics()
            rows[f"{name} {split}"] = f"{ROWS} rows, 00000000{checksum_of_targets(targets)}"
    inputs = {"rows": rows, "base_model": "w", "machine": MACHINE}
    averages = {f"{split}_average": average(metrics[split]) for split in metrics}
    leave(folder, run.config, {
        "signature": run.signature, "variant": run.config.variant, "tasks": list(run.config.data.tasks),
        "seed": run.config.seed, "ranks": 1, **metrics, **averages, "answers": files, "inputs": inputs,
        "parameters": {"total": 10, "trained": 1, "trained_percent_per_task": 10.0}, "best_step": 30,
        "seconds": {"train": 1.5, "evaluate": 0.5},
    })  # fmt: skip
    (folder / "inputs.json").write_text(json.dumps(inputs))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))


def contents(bundle: Path) -> dict[str, bytes]:
    """The files of a bundle, without its manifest."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}


def changed(bundle: Path, target: Path, changes: Mapping[str, Change], rehashed: bool) -> Path:
    """A bundle with some files changed; `rehashed`: its manifest fits what is in it now."""
    files = contents(bundle)
    for name, change in changes.items():
        found = change(files.get(name, b""))
        files = (
            {**files, name: found} if found is not None else {one: files[one] for one in files if one != name}
        )
    write_bundle(target, files, {"sweep": "small"})
    if not rehashed:
        with zipfile.ZipFile(bundle) as archive:
            manifest = archive.read(MANIFEST)
        with zipfile.ZipFile(target) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(target, "w") as archive:
            for name, data in {**files, MANIFEST: manifest}.items():
                archive.writestr(name, data)
    return target
