"""What a run reports while it trains: terminal or log file, metrics.jsonl, TensorBoard, state.json."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from hyperformer.disk_space import explain_disk_full
from hyperformer.files import atomic_write, flush
from hyperformer.run_files.recovery import Recovery, record_eval_rows
from hyperformer.run_files.run_folder import Phase, RunFolder, RunState
from hyperformer.training.train_state import TrainState

# Seconds between two writes of state.json.
_STATE_INTERVAL = 2.0


def say(message: str) -> None:
    """Print a line to the terminal or the log file, above a progress bar."""
    tqdm.write(message, file=sys.stdout)
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Seconds for people: 42s, 3m10s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _in_words(values: Mapping[str, float | None]) -> str:
    """The values of a line of training, for people."""
    shown = (("loss", "loss {:.4f}"), ("learning_rate", "lr {:.2e}"), ("gradient_norm", "norm {:.2f}"))
    parts = [words.format(values[name]) if values[name] is not None else f"{name} -" for name, words in shown]
    parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    parts.append(f"{values['padding_share']:.0%} padding")
    parts.append(f"{(values['peak_memory_bytes'] or 0) / 2**30:.1f} GiB")
    return "  ".join(parts)


class RunLog:
    """The main rank's reports. On other ranks it does nothing.

    Args:
        state: that this attempt starts from. Later lines of an attempt that died
            are removed, since their steps are repeated.
        recovery: what was changed for this attempt.
    """

    def __init__(
        self, folder: RunFolder, state: TrainState, *, main: bool, max_steps: int, recovery: Recovery
    ) -> None:
        self.folder, self.main, self.start, self.max_steps = folder, main, state.step, max_steps
        self.started = time.time()
        self._state_written, self._state_failed = 0.0, False
        self.state = RunState(
            "training",
            step=state.step,
            max_steps=max_steps,
            best_metric=state.best_metric,
            started=self.started,
            micro_batch_parts=recovery.micro_batch_parts,
            eval_rows=recovery.eval_rows,
        )
        if not main:
            return
        from torch.utils.tensorboard import SummaryWriter

        # A run that is made longer has no line at its former end, unless it is due there.
        logged = state.step if state.step == max_steps else state.logged_step
        self._drop_lines_after({"train": logged, "validation": state.evaluated_step})
        purge = max(logged, state.evaluated_step) + 1
        self._tensorboard = SummaryWriter(str(folder.tensorboard), purge_step=purge)
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(total=max_steps, initial=state.step, disable=quiet, unit="step", dynamic_ncols=True)
        self._write_state()

    def _drop_lines_after(self, steps: Mapping[str, int]) -> None:
        """Keep the lines up to a step: one for each split."""
        if not self.folder.metrics.exists():
            return
        kept = []
        with self.folder.metrics.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                # A process that was killed, or a full disk, can leave half a line.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    values = json.loads(line)
                    if line.endswith("\n") and values["step"] <= steps[values["split"]]:
                        kept.append(line)
        with atomic_write(self.folder.metrics) as stream:
            stream.writelines(kept)

    def step_done(self, step: int) -> None:
        """Move the progress bar; now and then write state.json."""
        if not self.main:
            return
        self._bar.update(1)
        self._update(step=step)
        if time.time() - self._state_written > _STATE_INTERVAL:
            self._write_state()

    def skipped(self, step: int, loss_scale: float) -> None:
        """A step that changed no weights, because the gradient overflowed in fp16.

        Args:
            loss_scale: of the next step.
        """
        if self.main:
            say(
                f"step {step}/{self.max_steps}  skipped: the gradient overflowed; loss scale {loss_scale:g} now"
            )

    def training(self, step: int, values: Mapping[str, float | None]) -> None:
        """A logged step.

        Args:
            values: `loss` (mean since the last line, in the units of `loss_reduction`; None: all steps since
                were skipped), `learning_rate`, `gradient_norm` (of this step, before clipping; None: it was
                skipped), `skipped_steps` (in all), and those of :meth:`StepMeter.values`.
        """
        if not self.main:
            return
        rate = (step - self.start) / max(time.time() - self.started, 1e-9)
        self._update(step=step, loss=values["loss"])
        self._record(step, "train", {name: value for name, value in values.items() if value is not None})
        if self._bar.disable:
            left = duration(self.state.seconds_left or 0)
            say(f"step {step}/{self.max_steps}  {_in_words(values)}  {rate:.2f} steps/s  {left} left")
        else:
            self._bar.set_postfix_str(_in_words(values))

    def save(self) -> None:
        """Wait until the disk has the lines so far. Nothing else here waits for the disk."""
        if self.main and self.folder.metrics.exists():
            with explain_disk_full(self.folder.metrics):
                flush(self.folder.metrics)

    def validation(
        self, step: int, metrics: Mapping[str, Mapping[str, float]], average: float, best: bool
    ) -> None:
        """The metrics of an evaluation on validation."""
        if not self.main:
            return
        flat = {f"{task}/{name}": value for task, values in metrics.items() for name, value in values.items()}
        self._record(step, "validation", {**flat, "average": average})
        each = "  ".join(f"{name} {value:.2f}" for name, value in flat.items())
        mean = f"validation average over columns {average:.2f}{' (best)' if best else ''}"
        say(f"step {step}/{self.max_steps}  {mean}  {each}")
        if best:
            self._update(best_metric=average)
            self._write_state()

    def one_class(self, step: int, found: Mapping[str, str]) -> None:
        """Tasks whose validation rows were all answered with one class; the run continues, and its result says so."""
        for task, answer in found.items() if self.main else ():
            text = f"every validation row of {task} is answered with one class, {answer!r}"
            say(f"step {step}/{self.max_steps}  {text}: the model does not tell its classes apart")

    def last_step(self, step: int, stopped_early: str | None) -> None:
        """No step follows this one; `stopped_early`: why, if there could be more."""
        if self.main and stopped_early:
            say(f"step {step}/{self.max_steps}  {stopped_early}")
            self.max_steps = self._bar.total = step  # of the progress, the run is at its end
            self._update(step=step, max_steps=step)

    def evaluation_rows(self, rows: int) -> None:
        """An evaluation has taken so many rows per forward at most; fewer than before are kept for the next start."""
        if self.main and rows < (self.state.eval_rows or sys.maxsize):
            record_eval_rows(self.folder, rows)
            self._update(eval_rows=rows)

    def phase(self, phase: Phase, error: str | None = None) -> None:
        """The run enters another phase."""
        if self.main:
            self._update(phase=phase, error=error)
            self._write_state()

    def close(self) -> None:
        if self.main:
            self._bar.close()
            self._tensorboard.close()

    def _record(self, step: int, split: str, values: Mapping[str, float]) -> None:
        with (
            explain_disk_full(self.folder.metrics),
            self.folder.metrics.open("a", encoding="utf-8") as stream,
        ):
            stream.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        with explain_disk_full(self.folder.tensorboard):
            for name, value in values.items():
                self._tensorboard.add_scalar(f"{split}/{name}", value, step)

    def _update(self, **values: Any) -> None:
        step = values.get("step", self.state.step)
        if step > self.start:
            values["seconds_left"] = (
                (time.time() - self.started) / (step - self.start) * (self.max_steps - step)
            )
        self.state = replace(self.state, **values)

    def _write_state(self) -> None:
        """Write state.json. The run continues without it: everything in it is elsewhere, too."""
        self._state_written = time.time()
        try:
            self.folder.write_state(self.state, durable=False)
        except OSError as error:
            if not self._state_failed:
                print(
                    f"{self.folder.state} could not be written ({error}); the run continues", file=sys.stderr
                )
            self._state_failed = True
