"""The authors' short trainings, step by step; reference_training.py runs ours beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import FIXTURES, REFERENCE

SPIECE = FIXTURES / "reference" / "e2e" / "spiece.model"
SETTINGS = ["plain_t5", "adapters", "hyperformerpp_pre0_tte0"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_our_training_follows_theirs(setting: str, tmp_path: Path) -> None:
    if REFERENCE is None:
        pytest.skip("needs the full reference: set HYPERFORMER_REFERENCE")
    folder = REFERENCE / "e2e" / setting
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("reference_training.py")), folder, SPIECE, tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout.splitlines()[-1])
    theirs = json.loads((folder / "golden.json").read_text())
    assert len(theirs["steps"]) == 20
    for batch, step in zip(ours["batches"], theirs["steps"], strict=True):
        assert batch == {key: step[key] for key in batch}
    assert ours["learning_rates"] == pytest.approx([step["lr"] for step in theirs["steps"]], abs=1e-15)
    assert ours["losses"] == pytest.approx([step["loss"] for step in theirs["steps"]], rel=1e-4)
    for task, metrics in ours["validation"].items():
        expected = theirs["validation_after_training"]
        assert metrics == pytest.approx({name: expected[f"{task}_eval_{name}"] for name in metrics})
    assert ours["weights_mean_difference"] < 1e-3 * ours["weights_mean_movement"]
