"""The two phases of timeouts, and what is said when a rank hangs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from hyperformer.errors import Hang
from hyperformer.run_files.run_folder import RunFolder, RunState
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.ranks.timeouts import Timeouts, explain_hangs

GLOO = "[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1200ms for recv operation to complete"
NCCL = "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE) ran for 600010 ms"
LOST = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:33120"


@pytest.mark.parametrize(
    ("settings", "step"),
    [({}, 45), ({"hang_minutes": 10}, 15), ({"hang_minutes": 0}, 45), ({"step_timeout_minutes": 7}, 7)],
)
def test_the_rank_that_hangs_ends_before_the_others_lose_patience(settings: dict, step: float) -> None:
    timeouts = Timeouts.of(TrainingConfig(**settings))
    assert timeouts == Timeouts(start=timedelta(hours=4), step=timedelta(minutes=step))


@pytest.mark.parametrize("message", [GLOO, NCCL])
def test_a_timeout_is_a_hang(message: str, tmp_path: Path) -> None:
    with (
        pytest.raises(Hang, match="rank 1 waited in vain .*raise start_timeout_minutes"),
        explain_hangs(RunFolder(tmp_path), 1),
    ):
        raise RuntimeError(message)


def test_a_rank_that_is_lost_may_have_hung(tmp_path: Path) -> None:
    """Its watchdog says so before it ends the process."""
    folder = RunFolder(tmp_path)
    for state in (
        None,
        RunState("training"),
        RunState("failed", error="OSError: no"),
        RunState("training", error="Hang: x"),
    ):
        if state is not None:
            folder.write_state(state)
        with pytest.raises(RuntimeError, match="closed by peer"), explain_hangs(folder, 1):
            raise RuntimeError(LOST)
    folder.write_state(RunState("failed", error="Hang: nothing moved for 30.0 minutes (step 4)"))
    with pytest.raises(Hang, match="^nothing moved for 30.0 minutes .step 4.$"), explain_hangs(folder, 1):
        raise RuntimeError(LOST)
    with pytest.raises(RuntimeError, match="shape"), explain_hangs(folder, 1):
        raise RuntimeError("shapes do not match")
