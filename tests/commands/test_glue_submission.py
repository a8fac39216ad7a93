"""``hyperformer predict --glue-submission``: GLUE's files, from test sets that are made smaller here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import REAL_DATA
from trained_models import make_adapter, make_base

from hyperformer.answers import glue
from hyperformer.cli import main
from hyperformer.errors import DataError

PAIR = {"sentence1": "the men", "sentence2": "he was there"}
ROWS: dict[str, dict[str, Any]] = {
    "cola/test": {"sentence": "he gave cars"},
    "rte/test": PAIR,
    "stsb/test": PAIR,
    "mnli/test_matched": {"premise": "the men", "hypothesis": "he was"},
    "mnli/test_mismatched": {"premise": "a car", "hypothesis": "he was"},
    "ax/test": {"premise": "there", "hypothesis": "he was"},
}
FILES = {"CoLA.tsv", "RTE.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"}


def write_rows(folder: Path, *, count: int = 3, **more: Any) -> Path:
    for name, row in ROWS.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**row, "label": -1, "idx": number, **more} for number in range(count)]
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_adapter(folder / "adapter", make_base(folder / "t5"), tasks=["cola", "rte", "stsb", "mnli"])
    return folder / "adapter"


@pytest.fixture(autouse=True)
def _three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue, "SETS", tuple(replace(one, count=3) for one in glue.SETS))


def submit(model: Path, folder: Path, data: Path, *arguments: str) -> int:
    words = [str(model), "--glue-submission", str(folder), "--data-dir", str(data), *arguments]
    return main(["predict", *words])


def test_the_files_are_those_that_glue_takes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = write_rows(tmp_path / "data"), tmp_path / "sub" / "mission"
    assert submit(model, folder, data, "--decode", "rank", "--batch-size", "2") == 0
    assert {path.name for path in folder.iterdir()} == FILES
    allowed = {
        "CoLA.tsv": {"0", "1"},
        "RTE.tsv": {"entailment", "not_entailment"},
        "STS-B.tsv": {str(fifths / 5) for fifths in range(26)},
    }
    for path in folder.iterdir():
        head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        assert head == ["index", "prediction"] and [index for index, _ in lines] == ["0", "1", "2"]
        three = {"entailment", "neutral", "contradiction"}
        assert {answer for _, answer in lines} <= allowed.get(path.name, three), path
    assert "also needs SST-2.tsv, MRPC.tsv, QQP.tsv, QNLI.tsv, WNLI.tsv" in capsys.readouterr().out
    assert submit(model, folder, data, "--task", "rte") == 2
    assert "has RTE.tsv already" in capsys.readouterr().err
    assert submit(model, tmp_path / "one", data, "--task", "rte", "--decode", "rank") == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["RTE.tsv"]


def test_what_is_missing_or_wrong_is_refused_before_anything_is_answered(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = write_rows(tmp_path / "data"), tmp_path / "out"
    (data / "ax/test.jsonl").unlink()
    (data / "rte/test.jsonl").write_text(json.dumps({**PAIR, "idx": 0}) + "\n")
    (data / "cola/test.jsonl").write_text((json.dumps({"sentence": "x", "idx": 0}) + "\n") * 3)
    (data / "stsb/test.jsonl").write_text((json.dumps(PAIR) + "\n") * 3)
    assert submit(model, folder, data) == 2
    told = capsys.readouterr().err
    assert "AX.tsv: Task 'ax': no" in told and "Traceback" not in told
    assert "RTE.tsv: " in told and "has 1 rows, and this test set has 3" in told
    assert "line 2: column 'idx' is 0, and 1 was expected" in told
    assert "STS-B.tsv: " in told and "has no column 'idx'" in told
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sst2"], "not one of this model's"),
        (["--task", "boolq"], "the tasks boolq are not GLUE's"),
        (["--input", "x.csv"], "--glue-submission reads GLUE's test sets"),
        (["--batch-size", "0"], "--batch-size is 0"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").touch()
    assert submit(model, tmp_path / "out", tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_predict_still_needs_a_task(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(model)]) == 2
    assert "by --task: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "answer", "written"),
    [
        ("CoLA.tsv", " 01", "1"),
        ("CoLA.tsv", "2", None),
        ("MNLI-mm.tsv", "2", "contradiction"),
        ("MNLI-m.tsv", "contradiction", None),
        ("QNLI.tsv", "1", "not_entailment"),
        ("RTE.tsv", "0", "entailment"),
        ("WNLI.tsv", "", None),
        ("STS-B.tsv", "3.8", "3.8"),
        ("STS-B.tsv", "5.2", None),
        ("STS-B.tsv", "nan", None),
        ("STS-B.tsv", "word", None),
    ],
)
def test_label_forms(file: str, answer: str, written: str | None, tmp_path: Path) -> None:
    one = next(one for one in glue.SETS if one.file == file)
    if written is None:
        with pytest.raises(
            DataError, match=f"{file}: GLUE wants .*Of 1 answers 1 are none, the first in row 0"
        ):
            glue.write_submission(one, [answer], tmp_path / "out")
        assert not list(tmp_path.iterdir())
    else:
        assert (
            glue.write_submission(one, [answer], tmp_path).read_text() == f"index\tprediction\n0\t{written}\n"
        )


@pytest.mark.skipif(REAL_DATA is None, reason="no real rows: set HYPERFORMER_DATA to a folder of GLUE tasks")
def test_real_test_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    there = [one for one in glue.SETS if (REAL_DATA / one.place / f"{one.split}.jsonl").exists()]  # type: ignore[operator]
    assert [rows.count for rows in glue.load_sets(there, str(REAL_DATA))] == [one.count for one in there]
    with pytest.raises(DataError, match=r"MNLI-m.tsv: Task 'mnli': no .*\n  AX.tsv: Task 'ax': no "):
        glue.load_sets([one for one in glue.SETS if one.file in ("MNLI-m.tsv", "AX.tsv")], str(REAL_DATA))
