"""What result.json holds, and what a run says of itself at its start and at its end."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from pathlib import Path
from typing import Any

from hyperformer.adapters.parameters import ParameterCount
from hyperformer.data.metrics import average
from hyperformer.files import git_environment
from hyperformer.settings.signature import signature
from hyperformer.training.evaluation import Tested
from hyperformer.training.loop import Trainer
from hyperformer.training.memory.memory_use import peak_memory
from hyperformer.training.numerics.kernels import describe_numerics, numerics_in_words

_VERSIONS = ("torch", "transformers", "datasets", "deepspeed")


def introduction(trainer: Trainer, parameters: ParameterCount) -> str:
    """What is about to be trained, for people."""
    config, batch, context = trainer.config, trainer.batch, trainer.context
    shares = trainer.sampler.distribution
    rows = ", ".join(
        f"{task} {size:,}" + (f" (drawn at {share:.1%})" if len(shares) > 1 else "")
        for (task, size), share in zip(trainer.sampler.sizes.items(), shares, strict=True)
    )
    lines = [
        f"{config.variant}: {parameters.trained:,} of {parameters.total:,} parameters train "
        f"({parameters.trained_percent_per_task:.2f}% of T5 per task)",
        f"training rows: {rows}; {context.size} x {context.device.type}",
        f"numbers: {numerics_in_words(describe_numerics(trainer.engine, config.training))}",
    ]
    usual = (config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps)
    if (batch.micro, batch.accumulation) != usual:
        lines.append(
            f"global batch of {batch.global_batch_size} rows as {batch.micro} rows x {batch.accumulation} forwards "
            f"x {batch.ranks} ranks"
        )
    settings = config.training
    if settings.early_stop is not None:
        first = (settings.early_stop + 1) * settings.eval_steps
        never = "" if first < settings.max_steps else f": never, as the run has {settings.max_steps}"
        lines.append(f"early_stop={settings.early_stop}: at the earliest at step {first}{never}")
    if trainer.state.step:
        lines.append(f"resuming from step {trainer.state.step} of {config.training.max_steps}")
    return "\n".join(lines)


def make_result(trainer: Trainer, parameters: ParameterCount, tested: Tested) -> dict[str, Any]:
    """What result.json holds; metrics in percent, sizes in bytes, times in seconds."""
    config, state = trainer.config, trainer.state
    return {
        "variant": config.variant,
        "tasks": list(config.data.tasks),
        "seed": config.seed,
        "ranks": trainer.context.size,
        "signature": signature(config),
        "validation": state.best_metrics,
        "test": tested.metrics,
        "validation_average": state.best_metric,
        "test_average": average(tested.metrics) if tested.metrics else None,
        "best_step": state.best_step or state.step,
        "steps": state.step,
        "one_class": {"kept": state.best_one_class, "last": state.one_class},
        "stopped_early": state.stopped_early(config.training),
        "skipped_steps": state.skipped_steps,
        "drawn": drawn_rows(trainer),
        "numerics": describe_numerics(trainer.engine, config.training),
        "answers": tested.answers,
        "parameters": {
            "total": parameters.total,
            "trained": parameters.trained,
            "trained_percent_per_task": parameters.trained_percent_per_task,
        },
        "seconds": {"train": state.train_seconds, "evaluate": state.evaluate_seconds},
        "peak_memory_bytes": peak_memory(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "git_commit": _git_commit(),
    }


def drawn_rows(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """What was drawn of each task: its training `rows`, its `share` of the draws as set, and rows `drawn`."""
    sampler, drawn = trainer.sampler, trainer.sampler.drawn
    return {
        task: {"rows": size, "share": share, "drawn": drawn[task]}
        for (task, size), share in zip(sampler.sizes.items(), sampler.distribution.tolist(), strict=True)
    }


def summary(result: dict[str, Any]) -> str:
    """The metrics of a run that is done, for people."""
    drawn = ", ".join(
        f"{task} {one['drawn']:,} ({one['drawn'] / one['rows']:.2f} passes)"
        for task, one in result["drawn"].items()
    )
    lines = [f"best step {result['best_step']}", f"training rows drawn: {drawn}"]
    for split in ("validation", "test"):
        for task, metrics in result[split].items():
            values = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
            lines.append(f"{split} {task}: {values}")
        if result[f"{split}_average"] is not None:
            lines.append(f"{split} average over columns: {result[f'{split}_average']:.2f}")
    return "\n".join(lines)


def _git_commit() -> str | None:
    """The commit of the code that runs; None where it is not known."""
    if os.environ.get("HYPERFORMER_COMMIT"):  # set in jobs, and in the container image
        return os.environ["HYPERFORMER_COMMIT"]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(
            git, env=git_environment(), capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
