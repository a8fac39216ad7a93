"""``hyperformer predict``: plain lines and rows, files and pipes, adapters and whole models, bad lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from places import ROOT
from trained_models import make_adapter, make_base

from hyperformer.adapters.trained_model import load_trained
from hyperformer.cli import main
from hyperformer.commands import predict as predict_module
from hyperformer.commands.export import export_task
from hyperformer.commands.inputs import Input, Item, read_lines
from hyperformer.commands.predict import Predictor
from hyperformer.data.tasks import TASKS, Task
from hyperformer.errors import ConfigError, DataError

ROWS = [
    {"sentence1": f"the men gave {number} cars", "sentence2": "he was there", "id": number}
    for number in range(7)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """t5/, adapter/ on it, and finetuned/, which has no adapters."""
    path = tmp_path_factory.mktemp("models")
    base = make_base(path / "t5")
    make_adapter(path / "adapter", base)
    make_adapter(path / "finetuned", base, "none")
    for name, content in (("other", '{"model_type": "bert"}'), ("nothing", '{"settings": {}}')):
        (path / name).mkdir()
        (path / name / "config.json").write_text(content)
    for name in ("empty", "unfinished", "run", "several/cola", "several/mrpc"):
        (path / name).mkdir(parents=True)
    (path / "unfinished" / "state.json").write_text("{}")
    for name in ("run", "several/cola", "several/mrpc"):
        shutil.copytree(path / "adapter", path / name / "adapter")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def predict(model: Path, task: str, *arguments: object) -> int:
    return main(["predict", str(model), "--task", task, *map(str, arguments)])


def test_rows_from_a_file_to_a_file(folder: Path, tmp_path: Path) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    assert predict(folder / "adapter", "mrpc", "--input", rows, "--output", out, "--batch-size", 3) == 0
    answers = lines_of(out)
    assert [{k: v for k, v in row.items() if k != "prediction"} for row in answers] == ROWS
    predictor = Predictor(load_trained(folder / "adapter"), "mrpc")
    sources = [f"sentence1: {row['sentence1']} sentence2: {row['sentence2']}" for row in ROWS]
    assert [row["prediction"] for row in answers] == [predictor.answers([source])[0] for source in sources]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "parquet", "jsonl.gz", "csv.gz"])
def test_rows_of_every_format(folder: Path, tmp_path: Path, suffix: str) -> None:
    path, out, plain = tmp_path / f"rows.{suffix}", tmp_path / "out.jsonl", tmp_path / "plain.jsonl"
    form = suffix.removesuffix(".gz")
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif form in ("csv", "tsv"):
        sign = "," if form == "csv" else "\t"
        text = "\n".join([sign.join(ROWS[0]), *(sign.join(map(str, row.values())) for row in ROWS)])
    else:
        text = json.dumps(ROWS) if form == "json" else "\n".join(map(json.dumps, ROWS))
    if form != "parquet":
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    assert predict(folder / "run", "mrpc", "--input", path, "--output", out) == 0
    assert predict(folder / "adapter", "mrpc", "--input", write_rows(plain, ROWS), "--output", plain) == 0
    answers = lines_of(out)
    assert [row["sentence1"] for row in answers] == [row["sentence1"] for row in ROWS]
    assert [row["prediction"] for row in answers] == [row["prediction"] for row in lines_of(plain)]


def test_plain_lines_are_taken_as_they_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("he was there\r\n they gave éclairs\nno line feed at the end")
    assert predict(folder / "finetuned", "cola", "--input", tmp_path / "texts") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["input"] for row in answers] == [
        "he was there",
        " they gave éclairs",
        "no line feed at the end",
    ]
    assert all(isinstance(row["prediction"], str) for row in answers)


def test_a_terminal_that_is_not_utf8_gets_the_same_json(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").write_text("“he” … 是", encoding="utf-8")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert predict(folder / "finetuned", "cola", "--input", tmp_path / "texts") == 0
    terminal.flush()
    assert json.loads(terminal.buffer.getvalue())["input"] == "“he” … 是"  # type: ignore[attr-defined]


def test_a_pipe(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hyperformer.cli", "predict", str(folder / "adapter"), "--task", "cola"],
        input="one text\nanother\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["one text", "another"]
    assert "Traceback" not in done.stderr


def test_answers_come_before_the_input_ends(folder: Path) -> None:
    predictor = Predictor(load_trained(folder / "adapter"), "cola")
    taken = []

    def endless() -> Any:
        for number in range(1000):
            taken.append(number)
            yield Item(f"text {number}", {"input": number})

    answers = predictor.predict(endless(), batch_size=4)
    assert next(answers)["input"] == 0
    assert len(taken) == 4


@pytest.mark.parametrize("decode", ["generate", "rank"])
def test_too_little_memory_for_a_batch(
    decode: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is that of torch's own allocator."""
    texts, answer = [row["sentence1"] for row in ROWS], predict_module.answer
    predictor = Predictor(load_trained(folder / "adapter"), "cola", decode=decode)
    expected = predictor.answers(texts)

    def greedy(model: Any, task: Any, tokenizer: Any, batch: Any, decoding: Any) -> Any:
        torch.empty(1 << 60 if len(batch["input_ids"]) > 2 else 1)
        return answer(model, task, tokenizer, batch, decoding)

    monkeypatch.setattr(predict_module, "answer", greedy)
    assert predictor.answers(texts) == expected
    told = capsys.readouterr().err
    assert "4 rows per forward from now on instead of 7" in told and "2 rows per forward" in told


def test_ranked_answers_are_labels(folder: Path, tmp_path: Path) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    assert predict(folder / "adapter", "stsb", "--input", rows, "--output", out, "--decode", "rank") == 0
    assert {row["prediction"] for row in lines_of(out)} <= set(TASKS["stsb"].labels or ())


@pytest.mark.parametrize("decode", ["rank", "constrained"])
def test_labels_that_are_the_same_tokens_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decode: str
) -> None:
    task = Task("cola", "{a}", "b", ("accuracy",), labels=("{", "}"))
    monkeypatch.setattr(predict_module, "get_task", lambda *_: task)
    with pytest.raises(ConfigError, match="these labels are the same tokens: .{. and .}."):
        Predictor(load_trained(folder / "adapter"), "cola", decode=decode)


def test_whole_models_and_exports_answer_the_same(folder: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    whole = tmp_path / "whole"
    load_trained(folder / "adapter").model.save_pretrained(whole)
    export_task(folder / "adapter", "mrpc", tmp_path / "static")
    assert predict(folder / "adapter", "mrpc", "--input", rows, "--output", tmp_path / "a") == 0
    # This whole model was saved without a tokenizer.
    assert predict(whole, "mrpc", "--input", rows, "--output", tmp_path / "b", "--base", folder / "t5") == 0
    assert predict(tmp_path / "static", "mrpc", "--input", rows, "--output", tmp_path / "c") == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == (tmp_path / "c").read_text()


def test_prefix_and_limit_are_the_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Predictor(load_trained(folder / "finetuned"), "cola").prefix
    make_adapter(tmp_path / "adapter", str(folder / "t5"), max_source_length=5, task_prefix=True)
    predictor = Predictor(load_trained(tmp_path / "adapter"), "cola")
    assert (predictor.prefix, predictor.max_source_length) == (True, 5)
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    assert predict(tmp_path / "adapter", "mrpc", "--input", rows, "--output", tmp_path / "out") == 0
    assert "7 of 7 sources were cut at 5 tokens" in capsys.readouterr().err


def test_own_tasks(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        'reviews: {template: "review: {text}", target: stars, labels: ["1", "2"], metrics: [accuracy]}'
    )
    make_adapter(tmp_path / "adapter", str(folder / "t5"), tasks=["reviews"], task_file=str(own))
    own.unlink()
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "good"}])
    out = tmp_path / "out"
    words = ("--input", rows, "--output", out, "--decode", "rank")  # no --task: the adapter has this one only
    assert main(["predict", str(tmp_path / "adapter"), *map(str, words)]) == 0
    assert lines_of(out)[0]["prediction"] in ("1", "2")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"sentence1": "a"', "not JSON"),
        (b"[1]", "wanted is one JSON object"),
        (
            b'{"sentence1": "a"}',
            "no column 'sentence2'.*reads sentence1, sentence2, and there are: 'sentence1'",
        ),
        (b'{"sentence1": "a", "sentence2": null}', "column 'sentence2' has no value"),
        (b'{"sentence1": "a", "sentence2": NaN}', "NaN is not a JSON value"),
        (b'{"sentence1": "a", "sentence2": "b", "prediction": "1"}', "column 'prediction'"),
        (b"\xff\xfe", "not UTF-8 text .*iconv"),
        (b"a\0b", "NUL"),
    ],
)
def test_a_bad_line_is_named_and_leaves_no_file(
    line: bytes, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl"
    rows.write_bytes(rows.read_bytes() + line + b"\n" + b'{"sentence1": "a", "sentence2": "b"}\n')
    assert predict(folder / "adapter", "mrpc", "--input", rows, "--output", out, "--batch-size", 2) == 2
    assert re.search(f"{rows}, line 8: .*{message}", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def read(*lines: bytes, task: str = "cola", form: str = "auto", prefix: bool = True) -> list[Item]:
    return list(read_lines(lines, Input("-", form), TASKS[task], prefix=prefix))


def test_parts_of_columns_that_are_not_there() -> None:
    line = json.dumps({"ctx": "a", "endings": ["b", "c"]}).encode()
    with pytest.raises(DataError, match=r"standard input, line 1: column 'endings\[2\]' has no value"):
        read(line, task="hellaswag")


def test_the_form_can_be_told() -> None:
    assert read(b"{not a row}", form="text") == [Item("{not a row}", {"input": "{not a row}"})]
    with pytest.raises(DataError, match="not JSON"):
        read(b"{not a row}")
    assert read(b'{"sentence": "hi"}')[0].source == "cola sentence: hi"


def test_a_byte_order_mark_is_no_text() -> None:
    assert read(b"\xef\xbb\xbfhi\n", b"ho") == [Item("hi", {"input": "hi"}), Item("ho", {"input": "ho"})]
    assert read(b'\xef\xbb\xbf{"sentence": "hi"}\n', b"\n")[0].columns == {"sentence": "hi"}
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        read("hi".encode("utf-16"))
    with pytest.raises(DataError, match="line 2: is empty"):
        read(b"hi\n", b"\n")


@pytest.mark.parametrize(
    "line", [b"sentence1,sentence2,label", b'sentence2\tid\t"sentence1"', b'[{"sentence1": 1}]', b"["]
)
def test_a_first_line_that_is_no_text_is_not_answered(line: bytes) -> None:
    with pytest.raises(DataError, match="line 1: .* may be the start of .*write --input-format"):
        read(line, task="mrpc")
    assert len(read(line, task="mrpc", form="text")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adapter", "colla"], "did you mean 'cola'"),
        (["adapter", "rte"], "not one of this model's"),
        (["finetuned", "nowhere"], "not one of this model's"),
        (["nowhere/at/all", "cola"], "no such folder"),
        (["adapter", "cola", "--batch-size", "0"], "--batch-size is 0"),
        (["adapter", "cola", "--input", "nowhere"], "--input nowhere: there is no such file"),
        (["adapter", "cola", "--output", "nowhere/out"], "there is no folder nowhere"),
        (["adapter", "cola", "--input-format", "parquet"], "parquet cannot be read from a pipe"),
        (["empty", "cola"], "holds neither an adapter"),
        (["unfinished", "cola"], "is the folder of a run that has no adapter yet"),
        (["several", "cola"], "holds several runs; name one of them: cola, mrpc"),
        (["other", "cola"], "is a bert model; the adapters are made for T5"),
        (["nothing", "cola"], "is no model: its config.json has no model_type"),
        (["t5", "wmt16-ro-en", "--decode", "rank"], "has none"),
    ],
    ids=str,
)
def test_bad_arguments(
    arguments: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    model, task, *more = arguments
    assert predict(Path(model), task, *more) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert predict(folder / "adapter", "cola") == 2
    assert "standard input: no rows" in capsys.readouterr().err
