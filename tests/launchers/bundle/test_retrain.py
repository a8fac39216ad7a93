"""Training a run of a bundle again: what is compared, and with what."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundled_sweep import LINES, MACHINE, TEXT, finish_with_answers

from hyperformer.errors import HyperformerError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config
from launchers.api import Sweep
from launchers.bundle import retrain
from launchers.bundle.planned_runs import PlannedRuns, read_runs
from launchers.bundle.verify import verify_bundle
from launchers.sweep import main

NAME = "finetune-lr0.001-seed1"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> PlannedRuns:
    """The runs of an unpacked bundle."""
    folder = tmp_path_factory.mktemp("retrain")
    (folder / "small.yaml").write_text(TEXT)
    sweep = Sweep.load(folder / "small.yaml", folder / "runs", "local")
    finish_with_answers(sweep)
    made = sweep.bundle(folder / "small.zip")
    (folder / "unpacked").mkdir()
    assert not verify_bundle(made.path, folder / "unpacked").faults
    return read_runs(folder / "unpacked")


Trained = Callable[..., retrain.Retrained]


@pytest.fixture
def trained(planned: PlannedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Trains again with a stand-in for the training, which writes what the real one would."""

    def train(
        lines: Any = LINES, machine: Any = MACHINE, steps: int = 15, **inputs: Any
    ) -> retrain.Retrained:
        def fake(flat: dict[str, Any], run: RunFolder, until: int, threads: int | None) -> None:
            assert threads == 1 and until == 20
            assert make_config(flat).seed == 1 and flat["output_dir"] == str(run.path)
            run.claim(planned.runs[0].run.config)
            then = json.loads((planned.runs[0].folder / "inputs.json").read_text())
            run.inputs.write_text(json.dumps({**then, "machine": machine, **inputs}))
            run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))

        monkeypatch.setattr(retrain, "_train", fake)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return retrain.retrain(planned, NAME, steps, tmp_path / "run", {})

    return train


def test_losses_are_compared_bit_by_bit_on_the_same_kind_of_machine(trained: Trained) -> None:
    found = trained()
    assert (found.faults, found.why_bound, found.steps, found.lines, found.largest) == ((), "", 20, 2, 0.0)
    close = [LINES[0], {**LINES[1], "loss": LINES[1]["loss"] * (1 + 1e-15)}]
    assert trained(close).faults == (
        f"train step 20: loss is 0.125 in the bundle, {close[1]['loss']!r} trained again",
    )
    assert trained(LINES[:1]).faults == (
        "train step 20: the run has such a line, and its training again has none",
    )
    assert "learning_rate is 0.001" in trained([LINES[0], {**LINES[1], "learning_rate": 2e-3}]).faults[0]


def test_losses_are_compared_within_a_bound_elsewhere(trained: Trained) -> None:
    other = {**MACHINE, "device": "another CPU"}
    close = [{**line, "loss": line["loss"] * 1.05} for line in LINES]
    found = trained(close, other)
    assert found.faults == () and found.largest == pytest.approx(0.05)
    assert found.why_bound == (
        "another kind of machine, or other libraries (device a CPU there, another CPU here)"
    )
    far = [{**line, "loss": line["loss"] * 1.2} for line in LINES]
    assert len(trained(far, other).faults) == 2
    assert len(trained([{**line, "loss": float("nan")} for line in LINES], other).faults) == 2


def test_losses_are_compared_within_a_bound_with_other_libraries(
    planned: PlannedRuns, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = planned.runs[0].result
    assert result is not None
    monkeypatch.setitem(result, "versions", {"transformers": "4.1", "datasets": "1"})
    found = trained([{**line, "loss": line["loss"] * 1.05} for line in LINES])
    assert found.faults == () and re.search(r"\(transformers 4.1 there, 5\S+ here\)", found.why_bound)


@pytest.mark.parametrize("listens", [True, False])
def test_a_training_that_is_ended(listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is at its own end when the signal comes no longer listens, and the signal kills it."""
    run, python = RunFolder(tmp_path / "run"), tmp_path / "python"
    monkeypatch.setattr(retrain.sys, "executable", str(python))
    log_a_step = f"mkdir {run.path}; echo '{json.dumps(LINES[0])}' > {run.metrics}"
    trap = "trap 'exit 143' TERM; " if listens else ""
    python.write_text(f"#!/bin/bash\n{trap}{log_a_step}\nwhile :; do sleep 0.1; done\n")
    python.chmod(0o755)
    retrain._train({}, run, 10, None)
    python.write_text("#!/bin/bash\necho no rows; exit 3\n")
    with pytest.raises(HyperformerError, match=r"ended with exit code 3:\n  no rows"):
        retrain._train({}, run, 20, None)


def test_other_rows_and_weights_are_told(trained: Trained) -> None:
    faults = trained(rows={}, base_model="v").faults
    assert any(line.startswith("the rows of rte test are None here, and were 40 rows") for line in faults)
    assert "the weights of the base model are others here" in faults


def test_what_cannot_be_trained_again(
    planned: PlannedRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        HyperformerError, match="the bundle has no such run; did you mean 'finetune-lr0.001-seed"
    ):
        retrain.retrain(planned, "finetune-lr0.001-seed3", 1, tmp_path / "run", {})
    with pytest.raises(
        HyperformerError, match="--set seed: only settings that name a file or folder can be set"
    ):
        retrain.retrain(planned, NAME, 1, tmp_path / "run", {"seed": "2"})
    assert main(["verify", "x.zip", "--steps", "3"]) == 2
    assert "--steps and --set belong to --retrain NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_run_is_bit_identical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two real trainings, each in a process of its own, and the installed command between them."""
    (tmp_path / "real.yaml").write_text(
        "{name: real, variants: [adapters_dagger], tasks: [toy-sentiment], base: {model_name_or_path: toy, "
        "data_source: toy, max_steps: 12, warmup_steps: 2, logging_steps: 2, eval_steps: 6, n_train: 64, n_val: 8, "
        "n_test: 8, per_device_train_batch_size: 4, lr_scheduler: linear, reduction_factor: 8}}"
    )
    sweep = Sweep.load(tmp_path / "real.yaml", tmp_path / "runs", "local")
    assert [entry.state for entry in (sweep.submit(), sweep.view())[1].statuses] == ["done"]
    made = sweep.bundle(tmp_path / "real.zip")
    assert main(["verify", str(made.path), "--retrain", "adapters_dagger", "--steps", "5"]) == 0
    out = capsys.readouterr().out
    assert "adapters_dagger, trained again for 6 steps" in out and "bit by bit" in out
