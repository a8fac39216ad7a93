"""One training job, as a table of contents: data -> model -> engine -> train -> evaluate."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from hyperformer.adapters.build import build_model, load_tokenizer
from hyperformer.adapters.parameters import ParameterCount, count_parameters
from hyperformer.adapters.record import base_fingerprint
from hyperformer.adapters.save import run_record, write_adapter
from hyperformer.data.metrics import average
from hyperformer.data.tasks import Task, get_task, load_user_tasks
from hyperformer.errors import ConfigError, Interrupted
from hyperformer.files import disk_full_told, write_json
from hyperformer.run_files.recovery import read_recovery
from hyperformer.run_files.run_folder import RunFolder, RunState
from hyperformer.run_files.watchdog import PATIENT, beat, watch
from hyperformer.settings.build import replace, signature
from hyperformer.settings.schema import RunConfig
from hyperformer.training import distributed
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.checkpoints.engine_state import trained_weights
from hyperformer.training.engine import Batch, deepspeed_config, make_batch, make_engine
from hyperformer.training.inputs import load_run_data, make_sampler
from hyperformer.training.log import RunLog, say
from hyperformer.training.loop import Trainer
from hyperformer.training.rank_classification import check_decode
from hyperformer.training.signals import StopFlag, stop_flag
from hyperformer.training.train_state import Metrics, TrainState

_VERSIONS = ("torch", "transformers", "datasets", "deepspeed")


def run_all(
    config: RunConfig, local_rank: int | None = None, deadline: float | None = None
) -> list[dict[str, Any]]:
    """Run a config; one that trains its tasks one at a time is a run a task, in folders of their own."""
    if not config.single_task or len(config.data.tasks) == 1:
        return [run(config, local_rank, deadline)]
    folder = Path(config.output_dir)
    return [
        run(replace(config, tasks=[task], output_dir=str(folder / task)), local_rank, deadline)
        for task in config.data.tasks
    ]


def run(config: RunConfig, local_rank: int | None = None, deadline: float | None = None) -> dict[str, Any]:
    """Train and evaluate one run in ``config.output_dir``, going on from its newest checkpoint.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.
        deadline: when this process will be killed, in seconds since the epoch; the run stops
            itself ahead of it (:mod:`hyperformer.training.signals` has the rule).

    Returns:
        What is in result.json.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can mend.
        DiskFull: there is no room for a file of the run.
        Diverged: the loss is no longer a number.
        Interrupted: a signal, or the deadline, asked to stop; all is saved.
    """
    tasks = _tasks(config)
    folder = RunFolder(config.output_dir)
    with disk_full_told(folder.path):
        if distributed.is_main_process():
            folder.claim(config)
        with watch(folder, config.training.hang_minutes, main=distributed.is_main_process()):
            return _run_watched(config, tasks, folder, local_rank, deadline)


def _run_watched(
    config: RunConfig,
    tasks: dict[str, Task],
    folder: RunFolder,
    local_rank: int | None,
    deadline: float | None,
) -> dict[str, Any]:
    """Join the other ranks, and run; a failure is left in state.json."""
    context = distributed.start(local_rank)
    # The batch sizes must fit together, which can be seen before anything is loaded.
    deepspeed_config(config.training, make_batch(config.training, context.size))
    context.barrier()
    done = folder.read_result()
    if done is not None:
        if context.is_main:
            say(f"{folder.path}: already done, nothing to do")
        return done
    with stop_flag(deadline) as stop:
        try:
            return _run(config, tasks, folder, context, stop)
        except Interrupted:
            raise
        except BaseException as error:
            if context.is_main:
                _record_failure(folder, error)
            raise


def _tasks(config: RunConfig) -> dict[str, Task]:
    """The run's tasks by name, seen to fit the settings."""
    own = load_user_tasks(config.data.task_file) if config.data.task_file else {}
    tasks = {name: get_task(name, own) for name in config.data.tasks}
    if config.single_task and len(tasks) > 1:
        raise ConfigError("single_task: a run has one task; run_all or a sweep makes one of each")
    check_decode(tasks.values(), config.training.decode)
    return tasks


def _run(
    config: RunConfig,
    tasks: dict[str, Task],
    folder: RunFolder,
    context: distributed.DistributedContext,
    stop: StopFlag,
) -> dict[str, Any]:
    """Data, model, engine, training, evaluation; returns what result.json got."""
    started = time.monotonic()
    settings = config.training
    micro_batch_splits = read_recovery(folder).micro_batch_parts
    if context.is_main:
        folder.write_state(
            RunState(
                "starting",
                max_steps=settings.max_steps,
                started=time.time(),
                micro_batch_parts=micro_batch_splits,
            )
        )
    # What a run goes on from says how large its batch is, on however many ranks it began.
    checkpoints = Checkpoints(
        folder.checkpoints,
        context,
        settings.save_total_limit,
        seed=config.seed,
        background=settings.save_in_background,
    )
    name, manifest = checkpoints.find() or (None, None)
    global_batch_size = manifest.global_batch_size if manifest else None
    batch = make_batch(
        settings, context.size, micro_batch_splits=micro_batch_splits, global_batch_size=global_batch_size
    )

    set_seed(config.seed)
    beat("loading the tokenizer", PATIENT)
    tokenizer = load_tokenizer(config.model)
    data = load_run_data(config, tasks, tokenizer, context)

    beat("loading the model", PATIENT)
    model = build_model(config)
    parameters = count_parameters(model)
    base = None if config.model.random_init else base_fingerprint(model)

    engine = make_engine(model, settings, batch, context)
    # Dropout differs from rank to rank; the weights do not.
    set_seed(config.seed + context.rank)
    sampler = make_sampler(config, data, batch)

    trainer = Trainer(config, engine, data, sampler, batch, checkpoints, context, name)
    state = trainer.state
    log = RunLog(
        folder,
        main=context.is_main,
        start=state.step,
        evaluated=state.evaluated_step,
        max_steps=settings.max_steps,
        micro_batch_splits=micro_batch_splits,
    )
    if context.is_main:
        _introduce(config, parameters, trainer, batch, context)
    trainer.train(log, stop)
    test = trainer.test(log, stop)

    # What no T5 on the hub has: the adapters, and a T5 that began at random.
    weights = trained_weights(engine, frozen_too="" if base is None else "adapters.")
    result = _result(config, parameters, state, test, time.monotonic() - started)
    result["micro_batch_parts"] = micro_batch_splits
    beat("writing the adapter and the result", PATIENT)
    if context.is_main:
        with disk_full_told(folder.adapter):
            record = run_record(config, model.config, base)
            write_adapter(folder.adapter, weights, record, task_file=config.data.task_file, result=result)
        with disk_full_told(folder.result):
            write_json(folder.result, result)
        say(_summary(result))
    log.phase("done")
    log.close()
    context.barrier()
    return result


def _introduce(
    config: RunConfig,
    parameters: ParameterCount,
    trainer: Trainer,
    batch: Batch,
    context: distributed.DistributedContext,
) -> None:
    rows = ", ".join(f"{task} {len(split):,}" for task, split in trainer.data.train.items())
    say(
        f"{config.variant}: {parameters.trained:,} of {parameters.total:,} parameters train "
        f"({parameters.trained_percent_per_task:.2f}% of T5 a task)"
    )
    say(f"training rows: {rows}; {context.size} x {context.device.type}")
    usual = (config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps)
    if (batch.micro, batch.accumulation) != usual:
        say(
            f"global batch of {batch.global_batch_size} rows as {batch.micro} rows x {batch.accumulation} forwards x "
            f"{batch.ranks} ranks"
        )
    if trainer.state.step:
        say(f"going on from step {trainer.state.step} of {config.training.max_steps}")


def _record_failure(folder: RunFolder, error: BaseException) -> None:
    """Leave the reason in state.json; a disk too full for that must not hide the reason itself."""
    try:
        before = folder.read_state()
        step, steps = (before.step, before.max_steps) if before else (0, 0)
        folder.write_state(
            RunState("failed", step=step, max_steps=steps, error=f"{type(error).__name__}: {error}")
        )
    except (OSError, ValueError, TypeError) as second:
        print(f"state.json could not be written: {second}", file=sys.stderr)


def _result(
    config: RunConfig, parameters: ParameterCount, state: TrainState, test: Metrics, total_seconds: float
) -> dict[str, Any]:
    """What result.json holds; metrics in percent, sizes in bytes."""
    return {
        "variant": config.variant,
        "tasks": list(config.data.tasks),
        "seed": config.seed,
        "signature": signature(config),
        "validation": state.best_metrics,
        "test": test,
        "validation_average": state.best_metric,
        "test_average": average(test) if test else None,
        "best_step": state.best_step or state.step,
        "parameters": {
            "total": parameters.total,
            "trained": parameters.trained,
            "trained_percent_per_task": parameters.trained_percent_per_task,
        },
        "seconds": {
            "train": state.train_seconds,
            "evaluate": state.evaluate_seconds,
            "this_attempt": total_seconds,
        },
        "peak_memory_bytes": _peak_memory(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "git_commit": _git_commit(),
    }


def _peak_memory() -> int:
    """Most memory this process held: on the GPU if there is one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _git_commit() -> str | None:
    """The commit of the code that runs; None where that is not known."""
    if os.environ.get("HYPERFORMER_COMMIT"):  # set in jobs, and in the container image
        return os.environ["HYPERFORMER_COMMIT"]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _summary(result: dict[str, Any]) -> str:
    lines = [f"best step {result['best_step']}"]
    for split in ("validation", "test"):
        for task, metrics in result[split].items():
            lines.append(
                f"{split} {task}: " + "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
            )
        if result[f"{split}_average"] is not None:
            lines.append(f"{split} average: {result[f'{split}_average']:.2f}")
    return "\n".join(lines)
