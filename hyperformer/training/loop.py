"""The training loop: load, step, evaluate, save."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

import torch

from hyperformer.config import RunConfig
from hyperformer.data.collate import collate
from hyperformer.data.dataset import TokenizedSplit
from hyperformer.errors import Diverged, Interrupted
from hyperformer.metrics import average
from hyperformer.training.checkpoint import Checkpoints, Metrics, Progress
from hyperformer.training.distributed import World
from hyperformer.training.engine import is_partitioned
from hyperformer.training.evaluation import evaluate
from hyperformer.training.inputs import RunData, Sampler
from hyperformer.training.log import RunLog
from hyperformer.training.optimization import token_loss
from hyperformer.training.signals import StopFlag


class Trainer:
    """One run's training, from where its newest checkpoint left it to its last step."""

    def __init__(
        self,
        config: RunConfig,
        engine: Any,
        data: RunData,
        sampler: Sampler,
        checkpoints: Checkpoints,
        world: World,
    ) -> None:
        self.config, self.engine, self.data, self.world = config, engine, data, world
        self.sampler, self.checkpoints = sampler, checkpoints
        self.progress = checkpoints.load_latest(engine) or Progress()
        if self.progress.step:
            sampler.load_state_dict(self.progress.sampler)
        # Sum of the losses since the last log line; stays on the device.
        self._loss = torch.zeros((), device=world.device)
        self._logged_step = self.progress.step
        self._learning_rate = 0.0

    def train(self, log: RunLog, stop: StopFlag) -> Progress:
        """Train to the last step.

        Raises:
            Interrupted: a signal asked to stop; all is saved.
            Diverged: the loss is no longer a number.
        """
        settings = self.config.training
        self.engine.train()
        while self.progress.step < settings.max_steps:
            started = time.monotonic()
            self._step()
            stop.took("step", time.monotonic() - started)
            self.progress.step += 1
            step, last = self.progress.step, self.progress.step == settings.max_steps
            log.step_done(step)
            if step % settings.logging_steps == 0 or last:
                self._log(log)
            self.progress.train_seconds += time.monotonic() - started
            if self.config.validates and (step % settings.eval_steps == 0 or last):
                self._validate(log)
            if step % settings.save_steps == 0 or last:
                self._save()
            elif stop.is_due(step):
                self._stop_if_asked(stop, log)
        return self.progress

    def _step(self) -> None:
        """One optimizer step on one task's batch, the same task on every rank."""
        settings = self.config.training
        self._learning_rate = self.engine.get_lr()[0]
        task, indices = self.sampler.next_batch()
        split = self.data.train[task]
        shares = indices.reshape(self.world.size, settings.gradient_accumulation_steps, -1)
        if settings.loss_reduction == "mean":
            # The engine averages over ranks and accumulation; undo that, and divide
            # by the tokens of the global batch, which every rank can count by itself.
            scale = (
                self.world.size
                * settings.gradient_accumulation_steps
                / int(split.target_ids.lengths(indices).sum())
            )
        else:
            scale = 1.0
        for rows in shares[self.world.rank]:
            batch = collate(split, rows, pad_token_id=self.data.tokenizer.pad_token_id)
            batch = {name: tensor.to(self.world.device, non_blocking=True) for name, tensor in batch.items()}
            labels = batch["labels"]
            logits = self.engine(**batch, task=task, use_cache=False).logits
            loss = token_loss(logits, labels, settings.label_smoothing) * scale
            self.engine.backward(loss)
            self.engine.step()
            self._loss += loss.detach() / settings.gradient_accumulation_steps

    def _log(self, log: RunLog) -> None:
        steps = self.progress.step - self._logged_step
        loss = self.world.sum(self._loss).item() / self.world.size / steps
        self._loss.zero_()
        self._logged_step = self.progress.step
        log.training(self.progress.step, loss, self._learning_rate)
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} at step {self.progress.step}: lower learning_rate, or write precision=fp32 "
                f"or bf16; the last whole checkpoint is {self.checkpoints.latest() or 'none'}"
            )

    def _validate(self, log: RunLog) -> None:
        log.phase("evaluating")
        started = time.monotonic()
        metrics = self.evaluate(self.data.validation)
        mean = average(metrics)
        best = self.progress.best_metric is None or mean > self.progress.best_metric
        if best:
            self.progress.best_step = self.progress.step
            self.progress.best_metric, self.progress.best_metrics = mean, metrics
            self.checkpoints.save_best(self.engine, self.progress.step)
        self.progress.evaluate_seconds += time.monotonic() - started
        log.validation(self.progress.step, metrics, mean, best)
        log.phase("training")

    def evaluate(self, splits: dict[str, TokenizedSplit]) -> Metrics:
        """Metrics of every task with the weights as they are."""
        return evaluate(
            self.engine.module,
            self.data.tasks,
            splits,
            self.data.tokenizer,
            batch_size=self.config.training.per_device_eval_batch_size,
            world=self.world,
            decode=self.config.training.decode,
            partitioned=is_partitioned(self.engine),
        )

    def _save(self) -> None:
        self.progress.sampler = self.sampler.state_dict()
        self.checkpoints.save(self.engine, self.progress)

    def _stop_if_asked(self, stop: StopFlag, log: RunLog) -> None:
        number = stop.agreed(self.world, self.progress.step)
        if not number:
            return
        self._save()
        log.phase("stopped")
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} after step {self.progress.step}; "
            "saved, and the same command goes on from there",
            number,
        )
