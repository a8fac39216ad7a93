"""Number formats: what a run gets by default, which runs are the same, and what a resume keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder, with_recorded_numerics
from hyperformer.settings.build import flatten, make_config, replace
from hyperformer.settings.precision import check_precision, zero_stage
from hyperformer.settings.signature import signature
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.deepspeed_config.build import engine_config

# Signatures that the version before gave, which had no `tf32` and `zero_stage: 0` as its default.
EARLIER: list[tuple[dict[str, Any], str]] = [
    ({}, "44136fa355"),
    ({"zero_stage": 0}, "44136fa355"),
    ({"zero_stage": 1}, "283c0ff844"),
    ({"precision": "bf16", "zero_stage": 0}, "d184ccb73c"),
    ({"precision": "fp16", "zero_stage": 1}, "5e70b82310"),
]


@pytest.mark.parametrize(("values", "then"), EARLIER, ids=str)
def test_a_run_that_trains_as_it_did_keeps_its_signature(values: dict[str, Any], then: str) -> None:
    assert signature(make_config(values)) == then


def test_a_run_that_trains_otherwise_has_another_signature() -> None:
    earlier = {signature for _, signature in EARLIER} | {
        "78180fe10e",
        "a1d447ba67",
    }  # bf16 stage 1, fp16 stage 0
    found = [
        signature(make_config(values))
        for values in (
            {"precision": "bf16"},
            {"precision": "bf16", "zero_stage": 2},
            {"tf32": False},
            {"deterministic": True},
        )
    ]
    assert len(set(found)) == 4 and not set(found) & earlier
    assert found[0] == signature(make_config({"precision": "bf16", "zero_stage": 1}))
    assert signature(make_config({"precision": "fp16"})) == "5e70b82310"  # of stage 1


@pytest.mark.parametrize(
    ("values", "stage", "sums"),
    [
        ({}, 0, None), ({"precision": "bf16"}, 1, "fp32"), ({"precision": "bf16", "zero_stage": 0}, 0, None),
        ({"precision": "bf16", "zero_stage": 3}, 3, "fp32"), ({"precision": "fp16"}, 1, None),
        ({"zero_stage": 2}, 2, None),
    ],
)  # fmt: skip
def test_stage_and_sums_of_gradients(
    values: dict[str, Any], stage: int, sums: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    monkeypatch.setattr(CPU_Accelerator, "is_fp16_supported", lambda self: True)
    config = make_config(values).training
    made = engine_config(config, make_batch(config, 1))
    assert zero_stage(config) == made["zero_optimization"]["stage"] == stage
    assert made.get("data_types", {}).get("grad_accum_dtype") == sums


def test_fp16_in_stage_0_is_refused_where_it_would_start() -> None:
    """And not where an earlier version's run is read."""
    config = make_config({"precision": "fp16", "zero_stage": 0})
    with pytest.raises(ConfigError, match="zero_stage is 0, but precision is fp16: .* write zero_stage=1"):
        check_precision(config.training)
    check_precision(make_config({"precision": "fp16"}).training)


def begun(folder: Path, **values: Any) -> dict[str, Any]:
    """The record of a run that an earlier version began in the folder."""
    config = make_config({**values, "output_dir": str(folder)})
    told = {key: value for key, value in flatten(config).items() if key not in ("tf32", "deterministic")}
    record = {"signature": signature(config), "settings": {"zero_stage": 0, **told}, "contents": {}}
    write_json(folder / "config.json", record)
    (folder / "checkpoints/step-1").mkdir(parents=True, exist_ok=True)
    return record


def test_a_run_of_an_earlier_version_resumes_without_tf32(tmp_path: Path) -> None:
    """Also if it is made longer, and if it is started a third time. Its signature stays."""
    folder, constant = RunFolder(tmp_path), {"lr_scheduler": "constant", "max_steps": 5}
    begun(tmp_path, **constant)
    config = make_config({**constant, "output_dir": str(tmp_path)}, contents={})
    for wanted in (config, config, replace(config, max_steps=9), replace(config, max_steps=9)):
        wanted = make_config(flatten(wanted), contents={})
        started = with_recorded_numerics(wanted, folder.read_record())
        assert not started.training.tf32 and signature(started) == signature(wanted)
        folder.claim(started)
    other = with_recorded_numerics(replace(config, seed=1), folder.read_record())
    assert other.training.tf32
    with pytest.raises(CheckpointError, match="other settings"):
        folder.claim(other)
    assert with_recorded_numerics(config, None).training.tf32


def test_a_run_without_tf32_is_no_run_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "checkpoints/step-1").mkdir(parents=True)
    folder.claim(make_config({"tf32": False, "output_dir": str(tmp_path)}, contents={}))
    with_it = with_recorded_numerics(
        make_config({"output_dir": str(tmp_path)}, contents={}), folder.read_record()
    )
    with pytest.raises(CheckpointError, match=r"tf32 \(False there, True now\)"):
        folder.claim(with_it)


@pytest.mark.parametrize("stage", [None, 2])
def test_a_run_that_summed_in_bf16_does_not_resume_in_float32(tmp_path: Path, stage: int | None) -> None:
    record = begun(tmp_path, precision="bf16", zero_stage=stage or 0)
    config = make_config({"precision": "bf16", "zero_stage": stage, "output_dir": str(tmp_path)}, contents={})
    told = "summed gradients in bf16" if stage else r"zero_stage \(0 there, None now\)"
    with pytest.raises(CheckpointError, match=told):
        RunFolder(tmp_path).claim(with_recorded_numerics(config, record))
