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
from hyperformer.training.distributed import World
from hyperformer.training.engine import Batch, is_partitioned
from hyperformer.training.evaluation import evaluate
from hyperformer.training.inputs import RunData, Sampler
from hyperformer.training.log import RunLog
from hyperformer.training.optimization import token_loss
from hyperformer.training.signals import StopFlag
from hyperformer.training.train_state import Metrics, Progress


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
        world: World,
        checkpoint: str | None = None,
    ) -> None:
        self.config, self.engine, self.data, self.world = config, engine, data, world
        self.sampler, self.batch, self.checkpoints = sampler, batch, checkpoints
        self.progress, loss = Progress(), 0.0
        if checkpoint is not None:
            self.progress, loss = checkpoints.load(engine, checkpoint)
            sampler.load_state_dict(self.progress.sampler)
        # Sum of the losses since the last log line; stays on the device.
        self._loss = torch.tensor(loss, device=world.device)
        self._saved = self._where()
        self._learning_rate = 0.0

    def train(self, log: RunLog, stop: StopFlag) -> Progress:
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
        return self.progress

    def _train(self, log: RunLog, stop: StopFlag) -> None:
        settings = self.config.training
        self.engine.train()
        self._look(stop)
        while True:
            # First, since a run that was stopped in a validation goes on with it.
            if self.progress.evaluated_step < self._validation_due():
                self._validate(log, stop)
            step, last = self.progress.step, self.progress.step == settings.max_steps
            if self._saved != self._where() and (step % settings.save_steps == 0 or last):
                self._save(stop)
            self._between_steps(step, stop)
            if last:
                return
            self._step_and_log(log, stop)

    def _where(self) -> tuple[int, int]:
        """What tells a checkpoint from the one before it: a step is saved again when it has been validated."""
        return self.progress.step, self.progress.evaluated_step

    def _validation_due(self) -> int:
        """This step, if it is one after which validation comes; else 0."""
        step, settings = self.progress.step, self.config.training
        due = self.config.validates and (step % settings.eval_steps == 0 or step == settings.max_steps)
        return step if due else 0

    def _step_and_log(self, log: RunLog, stop: StopFlag) -> None:
        settings, started = self.config.training, time.monotonic()
        self._step()
        self.progress.step += 1
        step = self.progress.step
        log.step_done(step)
        if step % settings.logging_steps == 0 or step == settings.max_steps:
            self._log(log)
        seconds = time.monotonic() - started
        self.progress.train_seconds += seconds
        stop.took("step", seconds)
        beat(f"step {step + 1}")

    def _step(self) -> None:
        """One optimizer step on one task's batch, the same task on every rank."""
        settings, parts = self.config.training, self.batch.accumulation
        self._learning_rate = self.engine.get_lr()[0]
        task, indices = self.sampler.next_batch()
        split = self.data.train[task]
        shares = indices.reshape(self.world.size, parts, -1)
        if settings.loss_reduction == "mean":
            # The engine averages over ranks and accumulation; undo that, and divide
            # by the tokens of the global batch, which every rank can count by itself.
            scale = self.world.size * parts / int(split.target_ids.lengths(indices).sum())
        else:
            # The sum over the tokens of what the settings call a micro-batch, however it is cut now.
            scale = settings.per_device_train_batch_size / self.batch.micro
        for rows in shares[self.world.rank]:
            batch = collate(split, rows, pad_token_id=self.data.tokenizer.pad_token_id)
            batch = {name: tensor.to(self.world.device, non_blocking=True) for name, tensor in batch.items()}
            labels = batch["labels"]
            logits = self.engine(**batch, task=task, use_cache=False).logits
            loss = token_loss(logits, labels, settings.label_smoothing) * scale
            self.engine.backward(loss)
            self.engine.step()
            self._loss += loss.detach() / parts

    def _mean_loss(self) -> float:
        """Mean loss a step since the last line, over all ranks.

        Raises:
            Diverged: it is not a number.
        """
        steps = max(1, self.progress.step - self.progress.logged_step)
        loss = self.world.sum(self._loss).item() / self.world.size / steps
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} at step {self.progress.step}: lower learning_rate, or write precision=fp32 "
                f"or bf16; the last whole checkpoint is {self.checkpoints.folder.newest() or 'none'}"
            )
        return loss

    def _log(self, log: RunLog) -> None:
        loss = self._mean_loss()
        log.training(self.progress.step, loss, self._learning_rate)
        self._loss.zero_()
        self.progress.logged_step = self.progress.step

    def _validate(self, log: RunLog, stop: StopFlag) -> None:
        self._mean_loss()
        log.phase("evaluating")
        started = time.monotonic()
        metrics = self._evaluate(self.data.validation, stop)
        mean = average(metrics)
        best = self.progress.best_metric is None or mean > self.progress.best_metric
        if best:
            self.progress.best_file = self.checkpoints.save_best(self.engine, self.progress.step)
            self.progress.best_step = self.progress.step
            self.progress.best_metric, self.progress.best_metrics = mean, metrics
        self.progress.evaluated_step = self.progress.step
        self.progress.evaluate_seconds += time.monotonic() - started
        log.validation(self.progress.step, metrics, mean, best)
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
            world=self.world,
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
        if self.progress.best_file is not None:
            self.checkpoints.load_best(self.engine, self.progress.best_file)
        log.phase("evaluating")
        started = time.monotonic()
        try:
            self._look(stop)
            metrics = self._evaluate(self.data.test, stop)
        except _AskedToStop as asked:
            self._interrupted(asked, log)
        self.progress.evaluate_seconds += time.monotonic() - started
        return metrics

    def _save(self, stop: StopFlag) -> None:
        """Save, unless the loss since the last line says that the weights are spoilt."""
        self._mean_loss()
        self.progress.sampler = self.sampler.state_dict()
        self.checkpoints.save(self.engine, self.progress, self._loss.item())
        self._saved = self._where()
        stop.took("save", self.checkpoints.save_seconds)

    def _between_steps(self, step: int, stop: StopFlag) -> None:
        """Between steps, where the ranks look at what has come up: a stop, a checkpoint written."""
        if stop.is_due(step):
            self.checkpoints.poll()
            stop.took("save", self.checkpoints.save_seconds)
            self._look(stop)

    def _look(self, stop: StopFlag) -> None:
        number = stop.agreed(self.world, self.progress.step)
        if number:
            raise _AskedToStop(number)

    def _interrupted(self, asked: _AskedToStop, log: RunLog) -> NoReturn:
        log.phase("stopped")
        name = signal.Signals(asked.signal).name
        raise Interrupted(
            f"stopped by {name} after step {self.progress.step}; saved, and the same command goes on from there",
            asked.signal,
        ) from None
