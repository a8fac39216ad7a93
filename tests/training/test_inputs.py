"""What a run read is recorded, and must be the same when it resumes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperformer.data.contents import identify
from hyperformer.errors import ConfigError, FileError
from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config
from hyperformer.settings.signature import signature
from hyperformer.training.deepspeed_config.batch import check_global_batch, make_batch
from hyperformer.training.inputs import with_steps
from hyperformer.training.inputs_record import record_inputs
from hyperformer.training.run_ownership import claim_folder

INPUTS: dict[str, Any] = {
    "rows": {"rte train": "64 rows, aa", "rte test": "8 rows, bb"}, "base_model": "cc", "global_batch_size": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (INPUTS, None),
        (
            {**INPUTS, "rows": {**INPUTS["rows"], "rte test": "8 rows, bx"}},
            r"rte test \(were 8 rows, bb, are 8 rows, bx\)",
        ),
        ({**INPUTS, "base_model": "cx"}, "the weights of the base model"),
    ],
)
def test_a_run_that_resumes_reads_the_same(tmp_path: Path, now: dict[str, Any], told: str | None) -> None:
    folder = RunFolder(tmp_path)
    record_inputs(folder, INPUTS, step=None)
    if told is None:
        record_inputs(folder, now, step=3)
    else:
        with pytest.raises(
            ConfigError, match=f"cannot resume, because these changed since it began: .*{told}"
        ):
            record_inputs(folder, now, step=3)
    record_inputs(folder, now, step=None)  # it begins again: nothing of before counts
    record_inputs(folder, now, step=3)


def test_a_run_without_a_record_and_one_whose_record_is_damaged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert record_inputs(folder, INPUTS, step=3) == 3  # of an earlier version
    assert record_inputs(folder, INPUTS, step=5) == 3  # what was read before that stays unknown
    assert record_inputs(folder, INPUTS, step=None) is None
    assert record_inputs(folder, INPUTS, step=5) is None
    for text in ("{", "[]", '{"rows": 3}'):
        folder.inputs.write_text(text)
        with pytest.raises(FileError):
            record_inputs(folder, INPUTS, step=3)


def test_a_run_that_is_done_names_the_rows_that_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"tasks": ["rte"], "data_source": "folder", "data_dir": str(tmp_path / "rows")})
    folder = RunFolder(tmp_path / "run")
    folder.make()
    write_json(folder.result, {"signature": signature(identify(config, None, 1)), "test": {}})
    (tmp_path / "rows/rte").mkdir(parents=True)
    (tmp_path / "rows/rte/train.csv").touch()  # a small task: validation and test are made of one file
    assert claim_folder(folder, identify(config, None, 1)) is not None
    assert f"count as unchanged: {tmp_path}/rows/rte/validation\n" in capsys.readouterr().out


def test_a_sum_over_a_batch_starts_on_the_ranks_it_was_planned_for() -> None:
    config = identify(make_config({"tasks": ["rte"], "loss_reduction": "sum"}), None, ranks=2)
    check_global_batch(config, make_batch(config.training, 2))
    check_global_batch(config, make_batch(config.training, 4, global_batch_size=64))  # it resumes
    with pytest.raises(ConfigError, match="planned with 64, and 1 ranks make 32"):
        check_global_batch(config, make_batch(config.training, 1))


class Rows(list):
    """Tokenised rows, of which only their number matters here."""


@pytest.mark.parametrize(
    ("settings", "steps", "warmup"),
    [
        ({"num_train_epochs": 3, "warmup_steps": 0}, 19, 0),  # 3 x 200 rows / 32, rounded up
        ({"num_train_epochs": 1.12, "warmup_ratio": 0.5}, 7, 4),
        ({"num_train_epochs": 0.01, "warmup_ratio": 0.0}, 1, 0),
        ({"max_steps": 50, "warmup_ratio": 0.1}, 50, 5), ({"max_steps": 7, "warmup_steps": 2}, 7, 2),
    ],
)  # fmt: skip
def test_epochs_and_shares_become_numbers_of_the_same_run(
    settings: dict[str, Any], steps: int, warmup: int
) -> None:
    config = identify(make_config({"tasks": ["rte", "cola"], **settings}), None, ranks=1)
    data: Any = SimpleNamespace(train={"rte": Rows(range(150)), "cola": Rows(range(50))})
    found = with_steps(config, data, make_batch(config.training, 1))
    assert (found.training.max_steps, found.training.warmup_steps) == (steps, warmup)
    assert signature(found) == signature(config)


def test_a_warm_up_longer_than_the_epochs_is_an_error() -> None:
    config = make_config({"tasks": ["rte"], "num_train_epochs": 1})
    with pytest.raises(ConfigError, match="warmup_steps is 500, but the run has only 2 steps"):
        with_steps(config, SimpleNamespace(train={"rte": Rows(range(64))}), make_batch(config.training, 1))  # type: ignore[arg-type]
