"""Signals to the queue of this machine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import FakeStarter

from launchers import sweep
from launchers.store.attempts import Attempt
from launchers.submit import local_queue


class Going:
    """A run that goes until it is told to stop."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.is_stopped = attempt, False

    def done(self) -> bool:
        return self.is_stopped

    def stop(self) -> None:
        self.is_stopped = True

    def kill(self) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_run_starts_stops_that_run(
    number: int,
    write_sweep: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[Going] = []

    class Starter(FakeStarter):
        def start(self, attempt: Attempt, gpu: str | None) -> Any:
            signal.raise_signal(number)
            started.append(Going(attempt))
            return started[0]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_queue, "LocalStarter", Starter)
    write_sweep("{variants: [finetune], tasks: [toy-sentiment], base: {data_source: toy, warmup_steps: 0}}")
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert sweep.main(["submit", "s.yaml", "--cluster", "local"]) == 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert [run.is_stopped for run in started] == [True]
    assert "stopped; to resume the runs from where they saved:" in capsys.readouterr().out
