"""The training loop: load, step, evaluate, save."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from hyperformer.answers.classes import one_class
from hyperformer.data.metrics import average
from hyperformer.errors import CheckpointError, Interrupted, Paused
from hyperformer.run_files.watchdog import beat
from hyperformer.settings.schema import RunConfig
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.checkpoints.parameter_shards import is_partitioned
from hyperformer.training.deepspeed_config.batch import Batch
from hyperformer.training.evaluation import Decoding, Evaluation, Evaluator, Tested, are_kept, keep_answers
from hyperformer.training.inputs import RunData, make_sampler, task_of_rows
from hyperformer.training.log import RunLog, say
from hyperformer.training.memory.out_of_memory import RowLimit
from hyperformer.training.numerics.step_numbers import StepNumbers
from hyperformer.training.optimization.loss import batch_loss, loss_weight
from hyperformer.training.signals import StopFlag
from hyperformer.training.step_meter import StepMeter
from hyperformer.training.train_state import TrainState


class _AskedToStop(Exception):
    """All ranks have agreed to stop where they are."""

    def __init__(self, number: int) -> None:
        self.signal = number


class Trainer:
    """One run's training, from the checkpoint that was found, or from the start, to the last step.

    Args:
        batch: how the rows of a step are divided.
        checkpoints: of the run; `find` was called.

    Attributes:
        limit: rows per forward of an evaluation.
        pause_at: the step after which to save and pause; None: train to the end.
    """

    def __init__(
        self, config: RunConfig, engine: Any, data: RunData, batch: Batch, checkpoints: Checkpoints
    ) -> None:
        self.config, self.engine, self.data, self.batch = config, engine, data, batch
        self.checkpoints, self.context = checkpoints, checkpoints.context
        self.sampler = make_sampler(config, data, batch)
        self.state, loss = TrainState(), 0.0
        if checkpoints.found is not None:
            self.state, loss = checkpoints.load(engine)
            self.sampler.load_state_dict(self.state.sampler)
            if self.state.step < config.training.max_steps:
                self._continue_beyond_end()
        self.numbers = StepNumbers(engine, self.state, self.context, loss, checkpoints.folder.newest)
        self._saved = self._position()
        self._learning_rate, self.meter = 0.0, StepMeter()
        self.limit = RowLimit(say, in_place=not is_partitioned(engine))
        self.pause_at: int | None = None

    def _continue_beyond_end(self) -> None:
        """Where a run ended that is now made longer: forget the validation that only its end brought."""
        state = self.state
        if state.before_end is None:
            if state.evaluated_step % self.config.training.eval_steps == 0:
                return
            raise CheckpointError(
                f"{self.checkpoints.folder.path}: the run ended under an earlier version, with a validation at step "
                f"{state.evaluated_step} that a longer run does not have. It cannot be made longer: start another run"
            )
        state.forget_end()
        if state.best_file is not None:
            self.checkpoints.best.open(state.best_file)

    def train(self, log: RunLog, stop: StopFlag) -> TrainState:
        """Train to the last step.

        Raises:
            Interrupted: a signal, or the deadline, asked to stop; everything is saved.
            Paused: at `pause_at`; everything is saved.
            Diverged: the loss, a gradient or the weights are no longer finite numbers.
            DiskFull, CheckpointError: a checkpoint could not be written.
        """
        try:
            self._train(log, stop)
            self.checkpoints.wait()
        except _AskedToStop as asked:
            if self._saved != self._position():
                self._save(log, stop)
            self.checkpoints.wait()
            self._interrupted(asked, log)
        return self.state

    def _train(self, log: RunLog, stop: StopFlag) -> None:
        settings = self.config.training
        self.engine.train()
        self._check_stop(stop)
        while True:
            # First, since a run that was stopped in a validation resumes with it.
            if self.state.evaluated_step < self._validation_due():
                self._validate(log, stop)
            step, last = self.state.step, self.state.is_over(settings)
            pauses = not last and self.pause_at is not None and step >= self.pause_at
            if self._saved != self._position() and (step % settings.save_steps == 0 or last or pauses):
                self._save(log, stop)
            self._between_steps(step, stop)
            if last:
                log.last_step(step, self.state.stopped_early(settings))
                return
            if pauses:
                self.checkpoints.wait()
                log.phase("paused")
                raise Paused(f"paused after step {step}, as its race.json asks; saved")
            self._step_and_log(log, stop)

    def _position(self) -> tuple[int, int]:
        """What differs between two checkpoints: a step is saved again after its validation."""
        return self.state.step, self.state.evaluated_step

    def _validation_due(self) -> int:
        """This step, if validation follows it; else 0."""
        step, settings = self.state.step, self.config.training
        due = self.config.validates and (step % settings.eval_steps == 0 or step == settings.max_steps)
        return step if due else 0

    # Steps.

    def _step_and_log(self, log: RunLog, stop: StopFlag) -> None:
        settings, started = self.config.training, time.monotonic()
        with self.meter.step():
            is_skipped = self._step()
        self.context.step_done()
        self.state.step += 1
        step = self.state.step
        log.step_done(step)
        if is_skipped:
            log.skipped(step, self.numbers.loss_scale)
        if step % settings.logging_steps == 0 or step == settings.max_steps:
            self._log(log)
        seconds = time.monotonic() - started
        self.state.train_seconds += seconds
        stop.record_duration("step", seconds)
        beat(f"step {step + 1}")

    def _step(self) -> bool:
        """One optimizer step; returns whether it was skipped."""
        self._learning_rate = self.engine.get_lr()[0]
        count, forwards = self.context.size * self.batch.accumulation, self.batch.accumulation
        drawn = self.sampler.next_batch()
        sources, targets = self.data.lengths(drawn).reshape(2, count, -1)
        self.meter.count(sources)
        self.meter.count(targets)
        weight = loss_weight(self.config.training, self.batch, int(targets.sum()))
        is_skipped = False
        for part in drawn.parts(count)[self.context.rank * forwards :][:forwards]:
            rows = part.by_task(self.data.train)
            with self.meter.data():
                batch = self.data.training_batch(rows, self.context.device)
            smoothing = self.config.training.label_smoothing
            loss = batch_loss(self.engine, batch, task_of_rows(rows), smoothing) * weight
            self.engine.backward(loss)
            is_skipped = self.numbers.after_backward(loss.detach() / forwards)
        return is_skipped

    def _log(self, log: RunLog) -> None:
        values = {
            "loss": self.numbers.mean_loss(),
            "learning_rate": self._learning_rate,
            "gradient_norm": self.numbers.gradient_norm(),
            "skipped_steps": self.state.skipped_steps,
        }
        log.training(self.state.step, {**values, **self.meter.values()})
        # The line of the end alone does not count: a run can be made longer.
        if self.state.step % self.config.training.logging_steps == 0:
            self.numbers.new_line()
            self.meter.new_line()

    # Evaluation.

    def _validate(self, log: RunLog, stop: StopFlag) -> None:
        self.numbers.check(self.state.is_over(self.config.training))
        log.phase("evaluating")
        started, state, settings = time.monotonic(), self.state, self.config.training
        found = self._evaluate("validation", log, stop)
        metrics, mean, of_one_class = found.metrics, average(found.metrics), one_class(found.answers)
        best = state.best_metric is None or mean > state.best_metric
        if state.step % settings.eval_steps:
            state.remember_end()
        state.count_validation(mean, settings.early_stop_min_delta)
        if best:
            state.best_file = self.checkpoints.best.save(self.engine, state.step)
            state.best_step, state.best_metric, state.best_metrics = state.step, mean, metrics
            state.best_answers = keep_answers(found, log.folder.answers, self.context)
            state.best_one_class = of_one_class
        state.one_class = of_one_class if state.is_late(settings) else {}
        state.evaluated_step = state.step
        self.checkpoints.best.in_use(state.best_files)
        state.evaluate_seconds += time.monotonic() - started
        log.validation(state.step, metrics, mean, best)
        log.one_class(state.step, state.one_class)
        log.phase("training")

    def _evaluate(self, split: str, log: RunLog, stop: StopFlag) -> Evaluation:
        """Answers and metrics of every task with the weights as they are; ends early if asked to stop."""

        def after_batch(seconds: float) -> None:
            beat("a batch of evaluation")
            stop.record_duration("batch", seconds)
            self._check_stop(stop)

        found = self.evaluator(after_batch).evaluate(self.data.tasks, split, getattr(self.data, split))
        log.evaluation_rows(self.limit.rows)
        return found

    def evaluator(self, after_batch: Callable[[float], None]) -> Evaluator:
        """What evaluates the weights as they are; `after_batch` as in :class:`Evaluator`."""
        settings, synced = self.config.training, is_partitioned(self.engine) and self.context.size > 1
        return Evaluator(
            self.engine.module,
            self.data.tokenizer,
            self.context,
            settings.per_device_eval_batch_size,
            Decoding(settings.decode, synced_gpus=synced),
            after_batch,
            self.limit,
        )

    def test(self, log: RunLog, stop: StopFlag) -> Tested:
        """Evaluate the test splits, with the weights of the best validation if there was one.

        Raises:
            Interrupted: asked to stop; the next start evaluates again.
            DiskFull, CheckpointError: the weights of the best validation are damaged, or the answers could
                not be written.
        """
        if self.state.best_file is not None:
            self.checkpoints.best.load(self.engine, self.state.best_file)
        log.phase("evaluating")
        started = time.monotonic()
        try:
            self._check_stop(stop)
            self._renew_answers(log, stop)
            found = self._evaluate("test", log, stop)
        except _AskedToStop as asked:
            self._interrupted(asked, log)
        files = {
            "validation": self.state.best_answers,
            "test": keep_answers(found, log.folder.answers, self.context),
        }
        self.state.evaluate_seconds += time.monotonic() - started
        return Tested(found.metrics, files)

    def _renew_answers(self, log: RunLog, stop: StopFlag) -> None:
        """Answer the validation rows again if the answers of the best validation are not there as they were written.

        They may be damaged, of a validation that a longer run does not have, or not kept by an earlier version.
        """
        state = self.state
        if are_kept(state.best_answers, state.best_metrics, log.folder.answers, self.context):
            return
        found, state.best_answers = self._evaluate("validation", log, stop), {}
        if found.metrics == state.best_metrics:
            state.best_answers = keep_answers(found, log.folder.answers, self.context)
        elif self.context.is_main:
            say(
                f"the answers of the validation at step {state.best_step} are not kept: they were not there as they "
                f"were written, and the same weights now score {found.metrics} instead of {state.best_metrics}"
            )

    # Saving and stopping.

    def _save(self, log: RunLog, stop: StopFlag) -> None:
        """Save, unless a number of the run is no longer finite. A checkpoint needs the log lines before it."""
        self.numbers.check(self.state.is_over(self.config.training))
        log.save()
        self.state.sampler = self.sampler.state_dict()
        self.checkpoints.save(self.engine, self.state, self.numbers.loss.item())
        self._saved = self._position()
        stop.record_duration("save", self.checkpoints.save_seconds)

    def _between_steps(self, step: int, stop: StopFlag) -> None:
        """Check, on all ranks at the same step, for a stop and for a checkpoint written in the background."""
        if stop.is_check_due(step):
            self.checkpoints.poll()
            stop.record_duration("save", self.checkpoints.save_seconds)
            self._check_stop(stop)

    def _check_stop(self, stop: StopFlag) -> None:
        number = stop.agreed_signal(self.context, self.state.step)
        if number:
            raise _AskedToStop(number)

    def _interrupted(self, asked: _AskedToStop, log: RunLog) -> NoReturn:
        log.phase("stopped")
        name = signal.Signals(asked.signal).name
        raise Interrupted(
            f"stopped by {name} after step {self.state.step}; saved, and the same command resumes from there",
            asked.signal,
        ) from None
