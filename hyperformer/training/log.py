"""What a run tells while it trains: the terminal or log file, metrics.jsonl, TensorBoard, state.json."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from hyperformer.files import atomic_write, disk_full_told
from hyperformer.run_files.run_folder import Phase, RunFolder, RunState

# Seconds between two writes of state.json.
_STATE_INTERVAL = 2.0


def say(message: str) -> None:
    """A line for people, on the terminal or in the log file, not through a progress bar."""
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


class RunLog:
    """The main rank's reports. On other ranks it does nothing.

    Args:
        start: step that this attempt starts from; later lines of an attempt
            that died are dropped, since their steps are run again.
        evaluated: step of the last validation that counts; the same goes for later ones.
        micro_batch_splits: micro-batch micro_batch_splits, for state.json.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        main: bool,
        start: int,
        evaluated: int,
        max_steps: int,
        micro_batch_splits: int = 1,
    ) -> None:
        self.folder, self.main, self.start, self.max_steps = folder, main, start, max_steps
        self.started = time.time()
        self._state_written = 0.0
        self.state = RunState(
            "training",
            step=start,
            max_steps=max_steps,
            started=self.started,
            micro_batch_parts=micro_batch_splits,
        )
        self._state_failed = False
        if not main:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._drop_lines_after({"train": start, "validation": evaluated})
        self._tensorboard = SummaryWriter(str(folder.tensorboard), purge_step=start + 1)
        self._bar = tqdm(
            total=max_steps, initial=start, disable=not sys.stderr.isatty(), unit="step", dynamic_ncols=True
        )
        self._write_state()

    def _drop_lines_after(self, steps: Mapping[str, int]) -> None:
        """Keep the lines up to a step, which is a split's own."""
        if not self.folder.metrics.exists():
            return
        kept = []
        with self.folder.metrics.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                # A process killed, or a disk full, in the middle of a line leaves half of one.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    values = json.loads(line)
                    if line.endswith("\n") and values["step"] <= steps[values["split"]]:
                        kept.append(line)
        with atomic_write(self.folder.metrics) as stream:
            stream.writelines(kept)

    def step_done(self, step: int) -> None:
        """Move the bar; now and then write where the run is."""
        if not self.main:
            return
        self._bar.update(1)
        self._update(step=step)
        if time.time() - self._state_written > _STATE_INTERVAL:
            self._write_state()

    def training(self, step: int, loss: float, learning_rate: float) -> None:
        """A logged step: mean loss since the last one, in the units of `loss_reduction`."""
        if not self.main:
            return
        rate = (step - self.start) / max(time.time() - self.started, 1e-9)
        self._update(step=step, loss=loss)
        self._record(step, "train", {"loss": loss, "learning_rate": learning_rate})
        if self._bar.disable:
            left = duration(self.state.seconds_left or 0)
            say(
                f"step {step}/{self.max_steps}  loss {loss:.4f}  lr {learning_rate:.2e}  "
                f"{rate:.2f} steps/s  {left} left"
            )
        else:
            self._bar.set_postfix(loss=f"{loss:.4f}")

    def validation(
        self, step: int, metrics: Mapping[str, Mapping[str, float]], average: float, best: bool
    ) -> None:
        """The metrics of an evaluation on validation."""
        if not self.main:
            return
        flat = {f"{task}/{name}": value for task, values in metrics.items() for name, value in values.items()}
        self._record(step, "validation", {**flat, "average": average})
        each = "  ".join(f"{name} {value:.2f}" for name, value in flat.items())
        say(
            f"step {step}/{self.max_steps}  validation average {average:.2f}{' (best)' if best else ''}  {each}"
        )
        if best:
            self._update(best_metric=average)
            self._write_state()

    def phase(self, phase: Phase, error: str | None = None) -> None:
        """Write that the run is in another phase now."""
        if self.main:
            self._update(phase=phase, error=error)
            self._write_state()

    def close(self) -> None:
        if self.main:
            self._bar.close()
            self._tensorboard.close()

    def _record(self, step: int, split: str, values: Mapping[str, float]) -> None:
        with disk_full_told(self.folder.metrics), self.folder.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        with disk_full_told(self.folder.tensorboard):
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
        """Write state.json; the run goes on without it, since nothing that counts is only there."""
        self._state_written = time.time()
        try:
            self.folder.write_state(self.state)
        except OSError as error:
            if not self._state_failed:
                print(f"{self.folder.state} could not be written ({error}); the run goes on", file=sys.stderr)
            self._state_failed = True
