"""Answers that a run kept: every metric comes out of them again, and whatever is changed is found."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answers.kept_runs import example_pairs, write_run

from hyperformer.answers.answers import make_answers
from hyperformer.answers.files import read_answers, write_answers
from hyperformer.answers.verify import verify_run
from hyperformer.cli import main
from hyperformer.data.examples import make_examples
from hyperformer.data.metrics import METRICS
from hyperformer.data.readers.rows import record_rows
from hyperformer.data.tasks import TASKS, Task
from hyperformer.data.tasks.validate import task_fault
from hyperformer.errors import FileError
from hyperformer.files import write_json
from hyperformer.run_files.checkpoint_folder import checksum as checksum_of

# Keys of result.json on which no number of this task depends.
HARMLESS = {("signature",)} | {
    ("answers", "test", "rte", *more) for more in (("rounded",), ("labels",), ("labels", 0), ("labels", 1))
}


def task_for(name: str, kind: str) -> Task:
    """A task that the metric can measure, with answers of this kind."""
    labels = {"any": None, "some": ("0", "1", "2"), "two": ("no", "yes"), "binary": ("0", "1")}[
        METRICS[name].labels
    ]
    needed = {METRICS[name].needs: "{x}"} if METRICS[name].needs else {}
    task = Task("made up", "{x}", "y", (name,), labels, answer=kind, answer_tokens=9, **needed)  # type: ignore[arg-type]
    assert task_fault(task) is None
    return task


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in METRICS for kind in METRICS[name].answers]
)
def test_every_metric_comes_out_of_the_answers_again(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_for(name, kind)
    run = write_run(tmp_path / "run", (task, example_pairs(task)))
    found = verify_run(run)
    assert found.findings == ()
    result = json.loads((run / "result.json").read_text())
    for metric in METRICS[name].columns:
        value = result["test"]["made up"][metric]
        assert found.numbers["test", "made up", metric] == value and math.isfinite(value)
        changed = math.nextafter(value, 1e9)
        result["test"]["made up"][metric] = changed
        write_json(run / "result.json", result)
        assert main(["rescore", str(run)]) == 2
        told = capsys.readouterr().err
        assert f"test made up {metric}: result.json has {changed}, the answers give {value}" in told
        result["test"]["made up"][metric] = value
    write_json(run / "result.json", result)
    assert main(["rescore", str(run)]) == 0


def test_a_question_or_right_answer_that_was_changed_is_found(tmp_path: Path) -> None:
    task = TASKS["squad"]
    run = write_run(tmp_path / "run", (task, [("Paris", "the city"), ("Rome", "Rome")]))
    result, path = json.loads((run / "result.json").read_text()), run / "answers/test-squad.jsonl"
    for old, new in (("also Paris", "the city"), ('"group": "0"', '"group": "7"'), ('"group": "0", ', "")):
        content = path.read_text()
        path.write_text(content.replace(old, new, 1))
        entry = {"bytes": path.stat().st_size, "checksum": checksum_of(path)}
        changed = {"test": {"squad": result["answers"]["test"]["squad"] | entry}}
        write_json(run / "result.json", result | {"answers": changed})
        assert verify_run(run).findings, new
        path.write_text(content)


def test_what_is_read_is_what_was_kept(tmp_path: Path) -> None:
    task = task_for("exact_match", "text")
    pairs = example_pairs(task, 3)
    run = write_run(tmp_path / "run", (task, pairs))
    found = read_answers(run, "test", "made up")
    assert list(zip(found.targets, found.generated, strict=True)) == pairs
    assert found.scored == [text.strip() for _, text in pairs] and found.label_logprobs is None
    lines = (run / "answers/test-made up.jsonl").read_text().split("\n")[:-1]
    assert [json.loads(line)["row"] for line in lines] == [0, 1, 2]


def test_large_files_are_compressed_and_replaced_cleanly(tmp_path: Path) -> None:
    task = TASKS["cola"]
    run = write_run(tmp_path / "run", (task, example_pairs(task, 2000)))
    (path,) = (run / "answers").iterdir()
    assert path.name == "test-cola.jsonl.gz" and len(gzip.decompress(path.read_bytes())) > 1 << 16
    assert len(read_answers(run, "test", "cola")) == 2000
    few = read_answers(write_run(tmp_path / "few", (task, example_pairs(task, 5))), "test", "cola")
    write_answers(run / "answers", few)
    assert [path.name for path in (run / "answers").iterdir()] == ["test-cola.jsonl"]


def test_log_probabilities_are_kept(tmp_path: Path) -> None:
    pairs = [("0", "1"), ("1", "1")]
    run = write_run(tmp_path / "run", (TASKS["rte"], pairs), ranked=True)
    found = read_answers(run, "test", "rte")
    assert found.generated == [None, None] and found.label_logprobs == [{"0": -2.25, "1": -0.25}] * 2
    assert verify_run(run).findings == ()
    edit_lines(run, change('"1": -0.25', '"1": -2.25'), checksum=True)
    assert verify_run(run).findings == ()  # equally probable: either may be chosen
    edit_lines(run, change('"1": -2.25', '"1": -3.25'), checksum=True)
    assert verify_run(run).findings == ("test rte: row 0: the answer is '1', and the model gave '0'",)


def test_rows_are_known_again_whatever_the_variant() -> None:
    task = TASKS["rte"]
    rows = record_rows(
        [{"sentence1": f"a {number}", "sentence2": "b", "label": number % 2} for number in (1, 2, 1, 3)],
        "here",
        str,
    )
    with_prefix, without = (make_examples(task, rows, prefix=prefix) for prefix in (True, False))
    assert with_prefix.sources[0].startswith("rte ") and not without.sources[0].startswith("rte ")
    hashes = without.row_hashes()
    assert with_prefix.row_hashes() == hashes and with_prefix.take([3, 0]).row_hashes() == [
        hashes[3],
        hashes[0],
    ]
    assert hashes[0] == hashes[2] and len(set(hashes)) == 3 and all(len(text) == 16 for text in hashes)


def edit_lines(run: Path, change: Callable[[list[str]], Any], *, checksum: bool) -> None:
    """Change the lines of a file of answers; with `checksum`, make result.json list what is there now."""
    path = run / "answers/test-rte.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))
    if checksum:
        result = json.loads((run / "result.json").read_text())
        result["answers"]["test"]["rte"] |= {"bytes": path.stat().st_size, "checksum": checksum_of(path)}
        write_json(run / "result.json", result)


def swap(lines: list[str]) -> None:
    lines[0], lines[1] = lines[1], lines[0]


def change(old: str, new: str) -> Callable[[list[str]], None]:
    def edit(lines: list[str]) -> None:
        assert old in lines[0]
        lines[0] = lines[0].replace(old, new)

    return edit


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (swap, "holds no answers of 3 rows: it has 3 rows, or they are not in order"),
        (lambda lines: lines.pop(), "holds no answers of 3 rows"),
        (change('"target": "1"', '"target": "0"'), "test rte: the targets are not those of the rows"),
        (change('"answer": "0"', '"answer": "1"'), "row 0: the answer is '1', and the model gave '0'"),
        (change('"generated": "0"', '"generated": "1"'), "row 0: the answer is '0', and the model gave '1'"),
        (change('"generated": "0"', '"generated": null'), "row 0: the answer is '0', and the model gave none"),
        (change("}", ""), "holds no answers of 3 rows"),
    ],
)  # fmt: skip
def test_what_was_changed_is_found(
    edit: Callable[[list[str]], Any], finding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("1", "0"), ("0", "0"), ("1", "1")]
    for name, with_checksum in (("plain", False), ("cunning", True)):
        run = write_run(tmp_path / name, (TASKS["rte"], pairs))
        assert main(["rescore", str(run)]) == 0
        edit_lines(run, edit, checksum=with_checksum)
        assert main(["rescore", str(run)]) == 2
        told = capsys.readouterr().err
        assert (finding if with_checksum else "test-rte.jsonl") in told and "Traceback" not in told


def test_files_that_are_missing_or_were_never_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (TASKS["rte"], [("1", "0")]), (TASKS["cola"], [("1", "1")]))
    (run / "answers/test-rte.jsonl").unlink()
    found = verify_run(run)
    assert (
        len(found.findings) == 1 and "test-rte.jsonl is missing; move result.json away" in found.findings[0]
    )
    assert set(found.answers) == {("test", "cola")}
    assert found.numbers == {("test", "cola", "mcc"): 0.0}  # no average of a part
    with pytest.raises(FileError, match="lists no answers of test mnli; there are: cola, rte"):
        read_answers(run, "test", "mnli")
    result = json.loads((run / "result.json").read_text())
    del result["answers"]["test"]["cola"]
    write_json(run / "result.json", result)
    assert "test cola mcc: result.json has 0.0, the answers give None" in verify_run(run).findings
    del result["answers"]
    write_json(run / "result.json", result)
    with pytest.raises(FileError, match="of an earlier version, which kept none"):
        verify_run(run)
    (run / "result.json").unlink()
    with pytest.raises(FileError, match="not the folder of a run that is done"):
        verify_run(run)


def test_an_entry_that_is_damaged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (TASKS["rte"], [("1", "0")]))
    good = json.loads((run / "result.json").read_text())
    for wrong in ({"file": "../x"}, {"metrics": ["none"]}, {"rows": "1"}, {"answer": "word"}, {"labels": 3}):
        bad = json.loads(json.dumps(good))
        bad["answers"]["test"]["rte"] |= wrong
        write_json(run / "result.json", bad)
        (finding,) = verify_run(run).findings
        assert "result.json: what it lists of the answers of rte is damaged" in finding, wrong


def test_make_answers_reads_as_metrics_do() -> None:
    from hyperformer.answers.answers import Answer

    given = [Answer(text.strip(), text) for text in (" 1 ", "x", "1_0")]
    found = make_answers(TASKS["cola"], "test", given, ["1", "0", "1"], ["a", "b", "c"])
    assert found.scored == [1, -1, 10]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every value inside of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def test_whatever_stands_in_result_json_there_is_one_clear_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (TASKS["rte"], [("1", "0"), ("1", "1")]))
    good = (run / "result.json").read_text()
    for path in places(json.loads(good)):
        for odd in (None, -3, "x", [], {}, [1], {"x": 1}, True):
            *way, last = path
            bad = inner = json.loads(good)
            for key in way:
                inner = inner[key]
            if inner[last] == odd:
                continue
            inner[last] = odd
            write_json(run / "result.json", bad)
            try:
                found = verify_run(run).findings
            except FileError as error:
                found = (str(error),)
            assert found or path in HARMLESS, (path, odd)
