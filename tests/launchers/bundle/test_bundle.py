"""What a bundle holds, and what of a changed one is found."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundled_sweep import TEXT, Change, changed, contents, finish_with_answers

from hyperformer.errors import FileError, HyperformerError
from launchers.api import Sweep
from launchers.bundle import archive
from launchers.bundle.archive import MANIFEST
from launchers.bundle.verify import Verified, verify_bundle
from launchers.sweep import main


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.yaml").write_text(TEXT)
    found = Sweep.load(folder / "small.yaml", folder / "runs", "local")
    finish_with_answers(found)
    return Sweep.load(folder / "small.yaml", folder / "runs", "local")


@pytest.fixture(scope="module")
def bundle(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep.bundle(tmp_path_factory.mktemp("bundle") / "small.zip").path


def verified(bundle: Path, tmp_path: Path) -> Verified:
    folder = tmp_path / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return verify_bundle(bundle, folder)


def test_a_bundle_is_verified_without_the_sweep(
    sweep: Sweep,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copy(bundle, tmp_path / "given.zip")
    hidden = sweep.ledger.path.rename(sweep.ledger.path.with_name("elsewhere"))
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["verify", str(copy)]) == 0
    finally:
        hidden.rename(sweep.ledger.path)
    out = capsys.readouterr().out
    assert "12 of 12 runs are done; 1,280 answers scored again" in out and "verified: " in out
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() in out


def test_contents(sweep: Sweep, bundle: Path, tmp_path: Path) -> None:
    found = contents(bundle)
    assert {"plan.json", "sweep.yaml", "runs.json", "report/report.md", "report/table.tex"} <= found.keys()
    assert {
        "report/results.csv",
        "report/runs.csv",
        "report/settings.csv",
        "code/at-bundle/commit.json",
    } <= found.keys()
    top = sweep.ledger.folder(sweep.plan.runs[0]).name
    mine = {name.removeprefix(f"{top}/") for name in found if name.startswith(f"{top}/")}
    assert mine == {
        "config.json", "inputs.json", "metrics.jsonl", "result.json", "adapter/hyperformer_adapter.json",
        *(f"answers/{split}-{task}.jsonl" for split in ("validation", "test") for task in ("rte", "mrpc")),
    }  # fmt: skip
    again = sweep.bundle(tmp_path / "again.zip")
    assert again.path.read_bytes() == bundle.read_bytes()
    weights = sweep.bundle(tmp_path / "weights.zip", with_weights=True).path
    assert f"{top}/adapter/hyperformer_adapter.safetensors" in contents(weights)
    assert not verified(weights, tmp_path).faults


def test_nothing_is_overwritten(sweep: Sweep, bundle: Path, tmp_path: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(HyperformerError, match="already exists; name another file with -o"):
        sweep.bundle(bundle)
    assert bundle.read_bytes() == before
    with pytest.raises(HyperformerError, match="a name that ends with .zip"):
        sweep.bundle(tmp_path / "x.rar")


def digit(pattern: str) -> Change:
    """The last digit of the first match is another one."""

    def change(data: bytes) -> bytes:
        match = re.search(pattern.encode(), data)
        assert match, pattern
        place = match.end() - 1
        return data[:place] + (b"1" if data[place : place + 1] != b"1" else b"2") + data[place + 1 :]

    return change


def swapped(first: int, second: int) -> Change:
    def change(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        lines[first], lines[second] = lines[second], lines[first]
        return b"".join(lines)

    return change


RUN = "finetune-lr0.001-seed1"
FAULTS: dict[str, tuple[str, Change, str]] = {
    "metric": ("RUN/result.json", digit(r'"acc": \d\d\.\d'), r"rte acc: result\.json has [\d.]+, the answers give"),
    "average": ("RUN/result.json", digit(r'"test_average": \d\d\.\d'), "test average over columns: result.json has"),
    "seed": ("RUN/result.json", digit(r'"seed": \d'), "result.json: seed is 2, and the run's is 1"),
    "results.csv": ("report/results.csv", digit(r"\ntest,finetune,[^,]*,\d\d\.\d"), "line 2: rte acc: has"),
    "runs.csv": ("report/runs.csv", digit(r"rte mrpc,\d\d\.\d"), "report/runs.csv, line 2: test rte acc: has"),
    "settings.csv": ("report/settings.csv", digit(r"\d\d\.\d"), "report/settings.csv, line 2: rte acc"),
    "report.md": ("report/report.md", digit(r"\d\d\.\d"), r"report/report\.md, line \d+: has '.*', the answers give"),
    "table.tex": ("report/table.tex", digit(r"\d\d\.\d"), r"report/table\.tex, line \d+: has"),
    "row of the table": ("report/results.csv", swapped(1, 2), "line 2: variant: has finetune_single_task"),
    "row of the report": ("report/report.md", lambda data: data.replace(b"| finetune |", b"| fine |"), "report.md, l"),
    "no report": ("report/report.md", lambda _: None, "report/report.md: is missing"),
    "missing answers": ("RUN/answers/test-rte.jsonl", lambda _: None, r"answers/test-rte\.jsonl is missing"),
    "changed answer": ("RUN/answers/test-rte.jsonl", digit(r'"answer": "\d'), "its checksum differs"),
    "swapped answers": ("RUN/answers/test-rte.jsonl", swapped(3, 4), "its checksum differs"),
    "settings": ("RUN/config.json", digit(r'"seed": \d'), "the settings in config.json are not those of its signature"),
    "planned": ("runs.json", digit(r'"learning_rate": 0\.0\d+'), "its record has the settings of another run"),
    "choice": ("runs.json", lambda data: data.replace(b'"columns"', b'"tasks"'), "report.md, line"),
    "state": ("runs.json", lambda data: data.replace(b'"done"', b'"failed"', 1), "its state is failed"),
    "inputs": ("RUN/inputs.json", digit(r'": "\d'), "inputs.json: rows differs from that in result.json"),
    "no JSON": ("RUN/result.json", lambda data: data[:-20], "not a JSON file"),
    "no result": ("RUN/result.json", lambda _: None, "it has no result.json"),
    "deep JSON": ("RUN/result.json", lambda _: b"[" * 200_000, "cannot be understood|not a JSON file"),
    "name": (
        "runs.json",
        lambda data: data.replace(b'"name": "finetune-', b'"name": "\\u001b[2J', 1),
        r"runs.json is damaged: .*'\\x1b\[2J",
    ),
    "newer": (
        "runs.json",
        lambda data: data.replace(b'"settings": {', b'"settings": {"new": 1, ', 1),
        r"finetune-\S+: unknown setting 'new'",
    ),
    "no runs": ("runs.json", lambda _: b"[]", "runs.json: must be one JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_change_is_found_by_its_hash_and_without_it(
    kind: str, sweep: Sweep, bundle: Path, tmp_path: Path
) -> None:
    name, change, told = FAULTS[kind]
    run = next(run for run in sweep.plan.runs if run.name == RUN)
    name = name.replace("RUN", sweep.ledger.folder(run).name)
    found = verified(changed(bundle, tmp_path / "rehashed.zip", {name: change}, rehashed=True), tmp_path)
    assert any(re.search(told, line) for line in found.faults), found.faults
    if kind in ("metric", "average"):  # the report was right, and nothing else is told
        assert not any("report/" in line for line in found.faults)
    assert not any("SHA-256" in line for line in found.faults)
    found = verified(changed(bundle, tmp_path / "changed.zip", {name: change}, rehashed=False), tmp_path)
    assert any(
        re.match(rf"{re.escape(name)}: is (missing|not as it was packed)", line) for line in found.faults
    )


def test_answers_with_a_new_checksum_do_not_give_the_result(
    sweep: Sweep, bundle: Path, tmp_path: Path
) -> None:
    """Whoever changes answers can make checksum and manifest fit; then the numbers do not."""
    top = next(sweep.ledger.folder(run).name for run in sweep.plan.runs if run.name == RUN)
    name = f"{top}/answers/test-rte.jsonl"
    lines = [json.loads(line) for line in contents(bundle)[name].splitlines()]

    def faults(rows: list[dict[str, object]]) -> str:
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

        def relist(result: bytes) -> bytes:
            record = json.loads(result)
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            record["answers"]["test"]["rte"] |= {"checksum": digest, "bytes": len(data), "rows": len(rows)}
            return json.dumps(record).encode()

        changes: dict[str, Change] = {name: lambda _: data, f"{top}/result.json": relist}
        target = tmp_path / "x.zip"
        target.unlink(missing_ok=True)
        return "\n".join(verified(changed(bundle, target, changes, rehashed=True), tmp_path).faults)

    assert "rte acc: result.json has" in faults([{**lines[0], "generated": "9", "answer": 9}, *lines[1:]])
    assert "row 0: the answer is" in faults([{**lines[0], "answer": 9}, *lines[1:]])
    assert "not in order" in faults([lines[1], lines[0], *lines[2:]])
    other = next(row for row in range(1, len(lines)) if lines[row]["target"] != lines[0]["target"])
    renumbered = [dict(line) for line in lines]
    renumbered[0], renumbered[other] = {**lines[other], "row": 0}, {**lines[0], "row": other}
    assert "the targets are not those of the rows that the run read" in faults(renumbered)
    assert "the targets are not those" in faults(lines[:-1])


def test_an_added_file_and_a_cut_archive(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added = changed(bundle, tmp_path / "added.zip", {"report/other.md": lambda _: b"x"}, rehashed=False)
    assert verified(added, tmp_path).faults == (f"report/other.md: was added: {MANIFEST} does not list it",)
    assert main(["verify", str(added)]) == 1
    assert "fault: report/other.md: was added" in capsys.readouterr().out
    data = bundle.read_bytes()
    for number, part in enumerate((data[: len(data) // 2], data[:-1], b"", b"PK", data[len(data) // 2 :])):
        cut = tmp_path / f"{number}.zip"
        cut.write_bytes(part)
        assert main(["verify", str(cut)]) == 2
        assert "is no zip archive, or a part of it is missing" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.zip")]) == 2
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])
    assert main(["verify", str(flipped)]) != 0


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b'{"schema": 1, "sweep": "\\u001b[2J", "files": {}}', "the sweep's name is"),
        (b'{"schema": 1, "sweep": "x", "files": {}, "files": {"a": {"sha256": ""}}}', "files more than once"),
    ],
)
def test_a_manifest_that_is_not_ours(manifest: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, manifest)
    with pytest.raises(HyperformerError, match=told):
        verified(path, tmp_path)


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([(entry("../evil"), b"x")], "no plain relative path"),
        ([(entry("/evil"), b"x")], "no plain relative path"),
        ([(entry("a/../../evil"), b"x")], "no plain relative path"),
        ([(entry("a\\..\\evil"), b"x")], "no plain relative path"),
        ([(entry("C:/evil"), b"x")], "no plain relative path"),
        ([(entry("a/"), b"")], "no plain relative path"),
        ([(entry("a\nb"), b"")], "no plain relative path"),
        ([(entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")], "a link or a special file"),
        ([(entry("a"), b"x"), (entry("a"), b"y")], "it is there twice"),
        ([(entry("a"), b"x"), (entry("a/b"), b"y")], "is a file and a folder"),
        ([(entry("zeros"), bytes(100 << 20))], "more than 100 times as many"),
        ([(entry("zeros.gz"), gzip.compress(bytes(100 << 20)))], "more than 100 times its bytes"),
        ([(entry("two.gz"), gzip.compress(b"a") * 2)], "something follows its compressed data"),
    ],
)  # fmt: skip
def test_what_is_not_safe_to_unpack_is_refused(
    entries: list[tuple[zipfile.ZipInfo, bytes]], told: str, tmp_path: Path
) -> None:
    path, folder = tmp_path / "x.zip", tmp_path / "in" / "unpacked"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, json.dumps({"schema": 1, "files": {}}))
        for info, data in entries:
            archive.writestr(info, data)
    with pytest.raises(FileError, match=told):
        verify_bundle(path, folder)
    assert {one.name for one in tmp_path.rglob("*")} <= {
        "in",
        "unpacked",
        "x.zip",
        MANIFEST,
        "zeros.gz",
        "two.gz",
    }


def test_no_secret_is_packed(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "correct-horse-battery"
    monkeypatch.setenv("MY_PASSWORD", secret)
    folder = sweep.ledger.folder(sweep.plan.runs[0])
    place = sweep.ledger.paths.report / "notes.txt"
    place.write_text(f"login {secret}")
    (folder / "adapter" / ".env.json").write_text("{}")
    try:
        made = sweep.bundle(tmp_path / "hidden.zip")
        assert not any(secret.encode() in data for data in contents(made.path).values())
        assert contents(made.path)["report/notes.txt"] == b"login [hidden]"
        assert "report/notes.txt: a secret in it was replaced by [hidden]" in made.notes
        assert not verified(made.path, tmp_path).faults
    finally:
        place.unlink()
    monkeypatch.setenv("MY_PASSWORD", "generated")  # the name of a column of every answer
    with pytest.raises(HyperformerError, match=r"holds what looks like a token, .*Unset the variable"):
        sweep.bundle(tmp_path / "refused.zip")
    assert not (tmp_path / "refused.zip").exists()


def test_nothing_started_and_unfinished(
    write_sweep: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep("{name: half, variants: [finetune], tasks: [rte], grid: {seed: [1, 2]}}")
    assert main(["bundle", "s.yaml"]) == 2
    assert "nothing was started yet, so there is nothing to pack" in capsys.readouterr().err
    sweep = Sweep.load("s.yaml", cluster="local")
    finish_with_answers(sweep)
    done, second = sweep.view(), sweep.ledger.folder(sweep.plan.runs[1])
    second.rename(tmp_path / "away")
    assert main(["bundle", "s.yaml"]) == 0
    told = capsys.readouterr()
    assert "1 of 2 runs are not done; the report says so" in told.err and "half-bundle.zip" in told.out
    assert main(["verify", "half-bundle.zip"]) == 0
    assert "1 of 2 runs are done" in capsys.readouterr().out
    with pytest.raises(HyperformerError, match="was started again while it was packed"):
        sweep.bundle(tmp_path / "again.zip", view=done)
    one_is_done = sweep.view()
    (tmp_path / "away").rename(second)  # it ends while the sweep is packed
    assert not verified(sweep.bundle(tmp_path / "late.zip", view=one_is_done).path, tmp_path).faults


def test_no_room_to_unpack(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", write)
    with pytest.raises(
        FileError, match=f"{tmp_path}.*: No space left on device; set TMPDIR to a folder with room"
    ):
        verified(bundle, tmp_path)


def test_a_file_that_changes_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"old")
    described = archive.file_digest(weights)
    weights.write_bytes(b"new")
    monkeypatch.setattr(archive, "file_digest", lambda path: described)
    with pytest.raises(HyperformerError, match=r"w.safetensors changed while it was packed"):
        archive.write_bundle(tmp_path / "b.zip", {"w": weights}, {})
    assert sorted(tmp_path.iterdir()) == [weights]
