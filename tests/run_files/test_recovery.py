"""What a launcher changes between two attempts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperformer.errors import CheckpointError, ConfigError, FileError
from hyperformer.run_files.recovery import halve_evaluation, read_recovery, split_micro_batch, step_back
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config


def folder_of(path: Path, **settings: object) -> RunFolder:
    folder = RunFolder(path / "run")
    folder.claim(make_config({"tasks": ["rte"], "output_dir": str(folder.path), **settings}))
    return folder


def test_the_micro_batch_is_halved_until_it_is_one_row(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, per_device_train_batch_size=12, gradient_accumulation_steps=3)
    parts = []
    for rows in (6, 3, 1):
        assert f"{rows} rows instead of" in split_micro_batch(folder)
        parts.append(read_recovery(folder).micro_batch_parts)
    assert parts == [2, 4, 12]
    with pytest.raises(ConfigError, match="one row already"):
        split_micro_batch(folder)


def test_what_was_changed_since_the_attempt_began_is_not_changed_again(tmp_path: Path) -> None:
    """The run itself, and then its launcher, ask for the same."""
    folder = folder_of(tmp_path, per_device_train_batch_size=8, per_device_eval_batch_size=9)
    lines = {split_micro_batch(folder, tried=1) for _ in range(2)}
    assert len(lines) == 1 and read_recovery(folder).micro_batch_parts == 2
    assert json.loads(folder.recovery.read_text()) == {"micro_batch_parts": 2, "schema": 1}
    for tried, rows in ((None, 5), (None, 5), (5, 3), (20, 3), (2, 1)):
        halve_evaluation(folder, tried)
        assert read_recovery(folder).eval_rows == rows
    assert read_recovery(folder).micro_batch_parts == 2
    with pytest.raises(ConfigError, match="one row per forward already"):
        halve_evaluation(folder, 1)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"eval_rows": 0}', '{"micro_batch_parts": 0}', '{"schema": 9}', '{"a": 1}']
)
def test_a_damaged_file(text: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.recovery.write_text(text)
    with pytest.raises(FileError, match="recovery.json"):
        read_recovery(folder)


def test_step_back_renames_and_loses_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        step_back(folder)
    for name in ("step-200", "step-1000", "step-1000.2"):
        (folder.checkpoints / name).mkdir(parents=True)
        (folder.checkpoints / name / "file").write_text(name)
    for name, before in (
        ("step-1000.2", "step-1000"),
        ("step-1000", "step-200"),
        ("step-200", "the beginning"),
    ):
        line = step_back(folder)
        renamed = folder.checkpoints / f".diverged-{name}"
        assert str(renamed) in line and line.endswith(f"resumes from {before}")
        assert (renamed / "file").read_text() == name
    assert not (folder.checkpoints / "latest").exists()
