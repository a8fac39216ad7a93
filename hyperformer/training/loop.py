"""The training loop: load, step, evaluate, save."""

from __future__ import annotations

import math
import signal
import time
from typing import Any, NoReturn

import torch

from hyperformer.data.collate import collate
from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.metrics import average
from hyperformer.errors import Diverged, Interrupted
from hyperformer.run_files.watchdog import beat
from hyperformer.settings.schema import RunConfig
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.distributed import DistributedContext
from hyperformer.training.engine import Batch, is_partitioned
from hyperformer.training.evaluation import evaluate
from hyperformer.training.inputs import RunData, Sampler
from hyperformer.training.log import RunLog
from hyperformer.training.optimization import token_loss
from hyperformer.training.signals import StopFlag
from hyperformer.training.train_state import Metrics, TrainState


class _AskedToStop(Exception):
    """All ranks have agreed to stop where they are."""

    def __init__(self, number: int) -> None:
        self.signal = number


class Trainer:
    """One run's training, from a checkpoint or from the start to its last step.

    Args:
        checkpoint: name of the one to go on from.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Any,
        data: RunData,
        sampler: Sampler,
        batch: Batch,
        checkpoints: Checkpoints,
        context: DistributedContext,
        checkpoint: str | None = None,
    ) -> None:
        self.config, self.engine, self.data, self.context = config, engine, data, context
        self.sampler, self.batch, self.checkpoints = sampler, batch, checkpoints
        self.state, loss = TrainState(), 0.0
        if checkpoint is not None:
            self.state, loss = checkpoints.load(engine, checkpoint)
            sampler.load_state_dict(self.state.sampler)
        # Sum of the losses since the last log line; stays on the device.
        self._loss = torch.tensor(loss, device=context.device)
        self._saved = self._where()
        self._learning_rate = 0.0

    def train(self, log: RunLog, stop: StopFlag) -> TrainState:
        """Train to the last step.

        Raises:
            Interrupted: a signal, or the deadline, asked to stop; all is saved.
            Diverged: the loss is no longer a number.
            DiskFull, CheckpointError: a checkpoint could not be written.
        """
        try:
            self._train(log, stop)
            self.checkpoints.wait()
        except _AskedToStop as asked:
            if self._saved != self._where():
                self._save(stop)
            self.checkpoints.wait()
            self._interrupted(asked, log)
        return self.state

    def _train(self, log: RunLog, stop: StopFlag) -> None:
        settings = self.config.training
        self.engine.train()
        self._look(stop)
        while True:
            # First, since a run that was stopped in a validation goes on with it.
            if self.state.evaluated_step < self._validation_due():
                self._validate(log, stop)
            step, last = self.state.step, self.state.step == settings.max_steps
            if self._saved != self._where() and (step % settings.save_steps == 0 or last):
                self._save(stop)
            self._between_steps(step, stop)
            if last:
                return
            self._step_and_log(log, stop)

    def _where(self) -> tuple[int, int]:
        """What tells a checkpoint from the one before it: a step is saved again when it has been validated."""
        return self.state.step, self.state.evaluated_step

    def _validation_due(self) -> int:
        """This step, if it is one after which validation comes; else 0."""
        step, settings = self.state.step, self.config.training
        due = self.config.validates and (step % settings.eval_steps == 0 or step == settings.max_steps)
        return step if due else 0

    def _step_and_log(self, log: RunLog, stop: StopFlag) -> None:
        settings, started = self.config.training, time.monotonic()
        self._step()
        self.state.step += 1
        step = self.state.step
        log.step_done(step)
        if step % settings.logging_steps == 0 or step == settings.max_steps:
            self._log(log)
        seconds = time.monotonic() - started
        self.state.train_seconds += seconds
        stop.took("step", seconds)
        beat(f"step {step + 1}")

    def _step(self) -> None:
        """One optimizer step on one task's batch, the same task on every rank."""
        settings, accumulation = self.config.training, self.batch.accumulation
        self._learning_rate = self.engine.get_lr()[0]
        task, indices = self.sampler.next_batch()
        split = self.data.train[task]
        shares = indices.reshape(self.context.size, accumulation, -1)
        if settings.loss_reduction == "mean":
            # The engine averages over ranks and accumulation; undo that, and divide
            # by the tokens of the global batch, which every rank can count by itself.
            scale = self.context.size * accumulation / int(split.target_ids.lengths(indices).sum())
        else:
            # The sum over the tokens of what the settings call a micro-batch, however it is cut now.
            scale = settings.per_device_train_batch_size / self.batch.micro
        for rows in shares[self.context.rank]:
            batch = collate(split, rows, pad_token_id=self.data.tokenizer.pad_token_id)
            batch = {
                name: tensor.to(self.context.device, non_blocking=True) for name, tensor in batch.items()
            }
            labels = batch["labels"]
            logits = self.engine(**batch, task=task, use_cache=False).logits
            loss = token_loss(logits, labels, settings.label_smoothing) * scale
            self.engine.backward(loss)
            self.engine.step()
            self._loss += loss.detach() / accumulation

    def _mean_loss(self) -> float:
        """Mean loss a step since the last line, over all ranks.

        Raises:
            Diverged: it is not a number.
        """
        steps = max(1, self.state.step - self.state.logged_step)
        loss = self.context.sum(self._loss).item() / self.context.size / steps
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} at step {self.state.step}: lower learning_rate, or write precision=fp32 "
                f"or bf16; the last whole checkpoint is {self.checkpoints.folder.newest() or 'none'}"
            )
        return loss

    def _log(self, log: RunLog) -> None:
        loss = self._mean_loss()
        log.training(self.state.step, loss, self._learning_rate)
        self._loss.zero_()
        self.state.logged_step = self.state.step

    def _validate(self, log: RunLog, stop: StopFlag) -> None:
        self._mean_loss()
        log.phase("evaluating")
        started = time.monotonic()
        metrics = self._evaluate(self.data.validation, stop)
        mean = average(metrics)
        best = self.state.best_metric is None or mean > self.state.best_metric
        if best:
            self.state.best_file = self.checkpoints.save_best(self.engine, self.state.step)
            self.state.best_step = self.state.step
            self.state.best_metric, self.state.best_metrics = mean, metrics
        self.state.evaluated_step = self.state.step
        self.state.evaluate_seconds += time.monotonic() - started
        log.validation(self.state.step, metrics, mean, best)
        log.phase("training")

    def _evaluate(self, splits: dict[str, TokenizedSplit], stop: StopFlag) -> Metrics:
        """Metrics of every task with the weights as they are; left early if asked to stop."""

        def after_batch(seconds: float) -> None:
            beat("a batch of evaluation")
            stop.took("batch", seconds)
            self._look(stop)

        return evaluate(
            self.engine.module,
            self.data.tasks,
            splits,
            self.data.tokenizer,
            batch_size=self.config.training.per_device_eval_batch_size,
            context=self.context,
            decode=self.config.training.decode,
            partitioned=is_partitioned(self.engine),
            after_batch=after_batch,
        )

    def test(self, log: RunLog, stop: StopFlag) -> Metrics:
        """Metrics on the test splits, with the weights of the best validation if there was one.

        Raises:
            Interrupted: asked to stop; the next start evaluates again.
            CheckpointError: the weights of the best validation are damaged.
        """
        if self.state.best_file is not None:
            self.checkpoints.load_best(self.engine, self.state.best_file)
        log.phase("evaluating")
        started = time.monotonic()
        try:
            self._look(stop)
            metrics = self._evaluate(self.data.test, stop)
        except _AskedToStop as asked:
            self._interrupted(asked, log)
        self.state.evaluate_seconds += time.monotonic() - started
        return metrics

    def _save(self, stop: StopFlag) -> None:
        """Save, unless the loss since the last line says that the weights are spoilt."""
        self._mean_loss()
        self.state.sampler = self.sampler.state_dict()
        self.checkpoints.save(self.engine, self.state, self._loss.item())
        self._saved = self._where()
        stop.took("save", self.checkpoints.save_seconds)

    def _between_steps(self, step: int, stop: StopFlag) -> None:
        """Between steps, where the ranks look at what has come up: a stop, a checkpoint written."""
        if stop.is_due(step):
            self.checkpoints.poll()
            stop.took("save", self.checkpoints.save_seconds)
            self._look(stop)

    def _look(self, stop: StopFlag) -> None:
        number = stop.agreed(self.context, self.state.step)
        if number:
            raise _AskedToStop(number)

    def _interrupted(self, asked: _AskedToStop, log: RunLog) -> NoReturn:
        log.phase("stopped")
        name = signal.Signals(asked.signal).name
        raise Interrupted(
            f"stopped by {name} after step {self.state.step}; saved, and the same command goes on from there",
            asked.signal,
        ) from None
