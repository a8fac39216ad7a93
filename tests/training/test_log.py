"""What a run logs while it trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hyperformer.run_files.recovery import Recovery
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training import log as log_module
from hyperformer.training import step_meter
from hyperformer.training.log import RunLog
from hyperformer.training.step_meter import MEASURED, StepMeter
from hyperformer.training.train_state import TrainState


def test_a_line_and_no_wait_for_the_disk_but_at_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    monkeypatch.setattr(log_module, "_STATE_INTERVAL", 0.0)
    log = RunLog(folder, TrainState(), main=True, max_steps=9, recovery=Recovery())
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    values = {"loss": 0.5, "learning_rate": 1e-3, "gradient_norm": None, "skipped_steps": 1}
    measured = {"tokens_per_second": 12345.6, "data_seconds": 0.001, "peak_memory_bytes": 3 << 30}
    measured["padding_share"] = 0.123
    for step in (1, 2):
        log.step_done(step)
        log.training(step, {**values, **measured})
        log.validation(step, {"rte": {"acc": 50.0}}, 50.0, best=False)
    assert not flushed and json.loads(folder.state.read_text())["step"] == 2
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    del values["gradient_norm"]  # the step was skipped
    assert lines[0] == {"step": 1, "split": "train", **values, **measured} and measured.keys() == {*MEASURED}
    assert (
        "loss 0.5000  lr 1.00e-03  gradient_norm -  12,346 tokens/s  12% padding  3.0 GiB"
        in capsys.readouterr().out
    )
    log.save()
    assert len(flushed) == 1
    log.close()


def test_the_meter_counts_from_line_to_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1.5, 4.0, 10.0, 11.0, 11.5, 14.0])
    monkeypatch.setattr(step_meter.time, "monotonic", lambda: next(clock))
    meter = StepMeter()
    # Sources of two micro-batches of two rows, then their targets.
    for lengths in ([[150, 150], [130, 170]], [[60, 50], [50, 40]]):
        with meter.step():
            meter.count(np.array(lengths))
            with meter.data():
                pass
    values = meter.values()
    assert (values["tokens_per_second"], values["data_seconds"]) == (100.0, 0.5)
    assert values["padding_share"] == round(1 - 800 / 860, 4)
    meter.new_line()
    assert meter.values()["tokens_per_second"] == 0.0
