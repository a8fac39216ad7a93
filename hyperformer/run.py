"""One training job, as a table of contents: data -> model -> engine -> train -> evaluate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from transformers import set_seed

from hyperformer.adapter_folder import unfinished_run
from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.build import build_model
from hyperformer.adapters.init_from.source import Source, find_source
from hyperformer.adapters.methods.method import Method
from hyperformer.adapters.parameters import ParameterCount, count_parameters
from hyperformer.adapters.record import base_fingerprint
from hyperformer.adapters.save import run_record, write_adapter
from hyperformer.data.contents import identify
from hyperformer.data.dataset import CACHE
from hyperformer.data.label_checks import check_labels
from hyperformer.data.tasks import Task, get_task, load_user_tasks
from hyperformer.disk_space import explain_disk_full
from hyperformer.errors import ConfigError
from hyperformer.files import write_json
from hyperformer.hub_access import hub_revision
from hyperformer.run_files.pause import check_pause
from hyperformer.run_files.recovery import read_recovery
from hyperformer.run_files.run_folder import RunFolder, with_recorded_numerics
from hyperformer.run_files.watchdog import PATIENT, beat, watch
from hyperformer.settings.build import flatten
from hyperformer.settings.extras import check_installed
from hyperformer.settings.schema import RunConfig
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.checkpoints.engine_state import trained_weights
from hyperformer.training.decoding.rank_classification import check_decode
from hyperformer.training.deepspeed_config.batch import Batch, check_global_batch, make_batch
from hyperformer.training.deepspeed_config.build import engine_config
from hyperformer.training.engine import make_engine
from hyperformer.training.inputs import load_run_data, with_steps
from hyperformer.training.inputs_record import UNKNOWN_BEFORE, record_inputs, run_inputs
from hyperformer.training.log import RunLog, say
from hyperformer.training.loop import Trainer
from hyperformer.training.memory.memory_check import check_memory
from hyperformer.training.memory.oom_recovery import explain_out_of_memory
from hyperformer.training.numerics.kernels import choose_kernels, prepare_environment
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import joined
from hyperformer.training.ranks.timeouts import explain_hangs
from hyperformer.training.result import introduction, make_result, summary
from hyperformer.training.run_ownership import claim_folder, own_folder, record_failure, record_start
from hyperformer.training.signals import StopFlag, stop_flag


@dataclass(frozen=True)
class _Job:
    """What all parts of one training job know. `pause_at`: as in :func:`run`."""

    config: RunConfig
    tasks: dict[str, Task]
    folder: RunFolder
    context: DistributedContext
    pause_at: int | None


@dataclass(frozen=True)
class _Model:
    """Facts about the model before training.

    Attributes:
        fingerprint: of T5's weights; None if it starts at random.
        source: the trained run that it starts from; `started`: the parameters that have its weights.
    """

    method: Method
    parameters: ParameterCount
    fingerprint: str | None
    source: Source | None = None
    started: frozenset[str] = frozenset()

    def is_kept(self, name: str) -> bool:
        """Whether the run's adapter holds a parameter even if it did not train: the T5 below it lacks its value."""
        return self.fingerprint is None or self.method.t5_name(name) is None or name in self.started


def run(
    config: RunConfig,
    local_rank: int | None = None,
    deadline: float | None = None,
    pause_at: int | None = None,
) -> dict[str, Any]:
    """Train and evaluate one run in ``config.output_dir``, resuming from its newest checkpoint.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.
        deadline: when this process will be killed, in seconds since the epoch; the run stops
            itself ahead of it (:mod:`hyperformer.training.signals` has the rule).
        pause_at: the step after whose validation the run saves and pauses; a later start resumes it, and it
            ends bit-identical to a run that never paused. None: it trains to its end. Rank 0's counts.

    Returns:
        The content of result.json.

    Raises:
        ConfigError, DataError, CheckpointError: what the user can correct.
        RunInUse: another process trains this run.
        DiskFull: there is no room for a file.
        Diverged: its numbers are no longer finite.
        Hang: another rank no longer moves.
        Interrupted: a signal, or the deadline, asked to stop; everything is saved.
        Paused: at `pause_at`; everything is saved.
    """
    check_installed(config.adapter.adapter)
    check_pause(config, pause_at)
    tasks, folder = _tasks(config), RunFolder(config.output_dir)
    prepare_environment(config.training)
    with joined(local_rank, config.training) as context, explain_hangs(folder, context.rank):
        context.check_same({"settings": flatten(config), "task definitions": repr(tasks)})
        record = context.on_main(lambda: folder.read_record() if folder.has_begun else None)
        identified = context.on_main(
            lambda: with_recorded_numerics(identify(config, record, context.size), record)
        )
        pause_at = context.broadcast_from_main(pause_at)
        return _run_once(_Job(identified, tasks, folder, context, pause_at), deadline)


def _run_once(job: _Job, deadline: float | None) -> dict[str, Any]:
    """The run, unless it is done or another process trains it."""
    config, context = job.config, job.context
    with (
        explain_disk_full(among=[job.folder.path, config.data.cache_dir or CACHE]),
        own_folder(job.folder, context),
    ):
        done = context.on_main(lambda: claim_folder(job.folder, config))
        if done is not None:
            if context.is_main:
                say(f"{job.folder.path}: already done, nothing to do")
            return done
        watchdog = watch(job.folder, config.training.hang_minutes, main=context.is_main)
        with watchdog, record_failure(job.folder, context), stop_flag(deadline) as stop:
            return _run(job, stop)


def _tasks(config: RunConfig) -> dict[str, Task]:
    """The run's tasks by name, checked against the settings."""
    own = load_user_tasks(config.data.task_file) if config.data.task_file else {}
    tasks = {name: get_task(name, own) for name in config.data.tasks}
    if config.single_task and len(tasks) > 1:
        raise ConfigError(
            "single_task: a run has one task; hyperformer train, or a sweep, makes one run per task"
        )
    check_decode(tasks.values(), config.training.decode)
    return tasks


def _run(job: _Job, stop: StopFlag) -> dict[str, Any]:
    """Data, model, engine, training, evaluation; returns what result.json got."""
    started, settings, context = time.monotonic(), job.config.training, job.context
    recovery = context.on_main(lambda: read_recovery(job.folder))
    splits = recovery.micro_batch_parts
    if context.is_main:
        record_start(job.folder, settings, recovery)
    checkpoints = Checkpoints(
        job.folder.checkpoints,
        context,
        settings.save_total_limit,
        seed=job.config.seed,
        background=settings.save_in_background,
    )
    manifest = checkpoints.find()
    # The checkpoint says how large the global batch is, on any number of ranks.
    rows = manifest.global_batch_size if manifest else None
    batch = make_batch(settings, context.size, micro_batch_splits=splits, global_batch_size=rows)
    check_global_batch(job.config, batch)
    # Checked before anything is loaded.
    context.check_same({"deepspeed_config": engine_config(settings, batch)})
    trainer, model = _make_trainer(job, batch, checkpoints)
    inputs = run_inputs(trainer.data, batch, model.fingerprint)
    if model.source:
        inputs["init_from"] = model.source.record.weights_sha256
    context.check_same({"rows": inputs["rows"], "the base model's weights": model.fingerprint})
    step = manifest.step if manifest else None
    unknown = context.on_main(lambda: record_inputs(job.folder, inputs, step))
    if unknown is not None and context.is_main:
        say(f"what the steps before {unknown} read was not recorded; whether it was the same is unknown")
    log = RunLog(
        job.folder,
        trainer.state,
        main=context.is_main,
        max_steps=trainer.config.training.max_steps,
        recovery=recovery,
    )
    if context.is_main:
        say(introduction(trainer, model.parameters))
    trainer.limit.rows = recovery.eval_rows or trainer.limit.rows
    trainer.pause_at = job.pause_at
    with explain_out_of_memory(trainer, job.folder, recovery):
        check_memory(trainer, log)
        trainer.train(log, stop)
        tested = trainer.test(log, stop)
    result = make_result(trainer, model.parameters, tested) | {"micro_batch_parts": splits, "inputs": inputs}
    result["eval_rows"] = log.state.eval_rows
    if unknown is not None:
        result[UNKNOWN_BEFORE] = unknown
    result["base_model_revision"] = hub_revision(job.config.model.model_name_or_path)
    result["seconds"]["this_attempt"] = time.monotonic() - started
    _save(job, model, trainer, result)
    log.phase("done")
    log.close()
    context.barrier()
    return result


def _make_trainer(job: _Job, batch: Batch, checkpoints: Checkpoints) -> tuple[Trainer, _Model]:
    """Load data and model, and make the engine."""
    config = job.config
    source = job.context.on_each(lambda: find_source(config))
    unfinished = unfinished_run(source.files) if source else None
    if unfinished and job.context.is_main:
        say(
            f"init_from: {unfinished} has no result.json, so that run is not done; its weights are taken as they are"
        )
    choose_kernels(config.training)
    set_seed(config.seed)
    beat("loading the tokenizer", PATIENT)
    tokenizer = job.context.on_each(lambda: load_tokenizer(config.model))
    for task in job.tasks.values():
        check_labels(task, tokenizer, method=config.training.decode, max_tokens=config.data.max_target_length)
    data = load_run_data(config, job.tasks, tokenizer, job.context)
    config = with_steps(config, data, batch)
    beat("loading the model", PATIENT)
    model = job.context.on_each(lambda: build_model(config))
    fingerprint = None if config.model.random_init else base_fingerprint(model)
    started = job.context.on_each(lambda: source.load_into(model, fingerprint)) if source else frozenset()
    facts = _Model(model.method, count_parameters(model), fingerprint, source, started)
    engine = make_engine(model, config.training, batch, job.context)
    job.context.groups_made()
    # Dropout differs from rank to rank; the weights do not.
    set_seed(config.seed + job.context.rank)
    return Trainer(config, engine, data, batch, checkpoints), facts


def _save(job: _Job, model: _Model, trainer: Trainer, result: dict[str, Any]) -> None:
    """Write the adapter and result.json."""
    beat("writing the adapter and the result", PATIENT)
    config, fingerprint = job.config, model.fingerprint
    weights = trained_weights(trainer.engine, model.is_kept)
    if job.context.is_main:
        tf32 = result["numerics"]["tf32"]
        record = run_record(config, trainer.engine.module.config, fingerprint, tf32=tf32)
        with explain_disk_full(job.folder.path):
            write_adapter(job.folder.adapter, weights, record, task_file=config.data.task_file, result=result)
            write_json(job.folder.result, result)
        say(summary(result))
