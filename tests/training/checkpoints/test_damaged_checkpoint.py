"""Checkpoints that are not what they were: the one before, or a clear error; never a silent start, nothing executed."""

from __future__ import annotations

import contextlib
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training.forked_runs import Ended, ForkedRuns
from training.test_resume import assert_same

from hyperformer.errors import CheckpointError
from hyperformer.run_files.checkpoint_folder import MANIFEST, CheckpointFolder, checksum

# Checkpoints of steps 3 and 6, both after the only validation's weights; none at 8.
CUT = {"eval_steps": 2, "save_steps": 3}


@pytest.fixture(scope="module")
def whole(runs: ForkedRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "whole"
    runs.whole(folder, **CUT)
    return folder


@pytest.fixture(scope="module")
def cut(runs: ForkedRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "cut"
    runs.run(folder, at=("step", 7), **CUT)
    assert CheckpointFolder(folder / "checkpoints").names() == ["step-3", "step-6"]
    return folder


@pytest.fixture
def folder(cut: Path, tmp_path: Path) -> Path:
    shutil.copytree(cut, tmp_path / "run")
    return tmp_path / "run"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def resumed(ended: Ended, folder: Path, whole: Path, step: int) -> None:
    assert ended.codes == [0] and "Traceback" not in ended.out, ended.out
    assert f"resuming from step {step} of 8" in ended.out
    assert_same(whole, folder)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("part-0.safetensors", flip),
        ("random-0.json", truncate),
        ("progress.json", Path.unlink),
        (MANIFEST, truncate),
        ("", shutil.rmtree),
    ],
    ids=["flipped bit", "truncated", "missing", "manifest", "folder deleted"],
)
def test_the_checkpoint_before_is_taken(
    file: str, damage: Callable[[Path], Any], runs: ForkedRuns, folder: Path, whole: Path
) -> None:
    damage(folder / "checkpoints/step-6" / file)
    ended = runs.run(folder, **CUT)
    told = [line for line in ended.out.splitlines() if "step-6" in line]
    assert len(told) == 1 and "resuming from step-3" in told[0], ended.out
    # What was damaged is still there to look at.
    assert not file or (folder / "checkpoints/.damaged-step-6").is_dir()
    resumed(ended, folder, whole, 3)


@pytest.mark.parametrize("text", [None, "", "step-99999x", "\x00"])
def test_latest_tells_only_that_there_was_one(
    text: str | None, runs: ForkedRuns, folder: Path, whole: Path
) -> None:
    latest = folder / "checkpoints/latest"
    latest.unlink() if text is None else latest.write_text(text)
    resumed(runs.run(folder, **CUT), folder, whole, 6)


def test_killed_between_the_last_checkpoint_and_its_mention(
    runs: ForkedRuns, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    (folder / "checkpoints/latest").write_text("step-6")
    ended = runs.run(folder, **CUT)
    assert (folder / "checkpoints/latest").read_text() == "step-8" and "any more" not in ended.out
    resumed(ended, folder, whole, 8)


def test_none_readable_is_an_error_and_never_a_start_from_nothing(runs: ForkedRuns, folder: Path) -> None:
    for step in (3, 6):
        flip(folder / f"checkpoints/step-{step}/part-0.safetensors")
    before = sorted(path for path in folder.rglob("*") if path.name != "heartbeat")
    ended = runs.run(folder, **CUT)
    assert (
        ended.codes == [2]
        and "no checkpoint can be read" in ended.out
        and "move that folder away" in ended.out
    )
    assert before == sorted(path for path in folder.rglob("*") if path.name != "heartbeat")
    for step in (3, 6):
        shutil.rmtree(folder / f"checkpoints/step-{step}")
    ended = runs.run(folder, **CUT)
    assert ended.codes == [2] and "step-6 is not there any more" in ended.out


def test_damaged_best_weights(runs: ForkedRuns, folder: Path, whole: Path) -> None:
    """A checkpoint without its best validation's weights is not whole."""
    best = {
        name: CheckpointFolder(folder / "checkpoints").manifest(name).best for name in ("step-3", "step-6")
    }
    assert best["step-3"] and best["step-6"]
    flip(folder / "checkpoints" / best["step-6"][0])
    ended = runs.run(folder, **CUT)
    if best["step-6"] == best["step-3"]:
        assert ended.codes == [2] and "no checkpoint can be read" in ended.out
    else:
        resumed(ended, folder, whole, 3)


class Bomb:
    """A pickle that, when loaded, leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("file", ["part-0.safetensors", "random-0.json", "progress.json", MANIFEST, "best"])
def test_nothing_in_a_checkpoint_is_executed(
    file: str, runs: ForkedRuns, folder: Path, tmp_path: Path
) -> None:
    """Even with the right checksums."""
    checkpoint, mark = folder / "checkpoints/step-6", tmp_path / "executed"
    bomb = pickle.dumps(Bomb(mark))
    checkpoints = CheckpointFolder(folder / "checkpoints")
    manifest = checkpoints.manifest("step-6")
    assert manifest.best is not None
    path = checkpoints.path / manifest.best[0] if file == "best" else checkpoint / file
    path.write_bytes(bomb)
    if file == "best":
        manifest.best[1] = checksum(path)
    else:
        manifest.files[file] = [len(bomb), checksum(path)]
    if file != MANIFEST:
        checkpoints.write_manifest("step-6", manifest)
        assert checkpoints.verify("step-6") == manifest
    ended = runs.run(folder, **CUT)
    assert not mark.exists() and "Traceback" not in ended.out
    assert ended.codes == [0] if file != "best" else ended.codes in ([0], [2]), ended.out
    # It would have been, by pickle.
    pickle.loads(bomb)
    assert mark.exists()


def test_any_damage_to_any_file_is_seen(cut: Path, tmp_path: Path) -> None:
    """Seeded: cut, flip or delete one of the files anywhere; what is still read is what was written."""
    rng = random.Random(0)
    reference = {name: CheckpointFolder(cut / "checkpoints").verify(name) for name in ("step-3", "step-6")}
    for number in range(150):
        folder = tmp_path / str(number)
        shutil.copytree(cut / "checkpoints", folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "latest")
        path, kind = rng.choice(files), rng.choice(["cut", "flip", "delete", "grow"])
        content = bytearray(path.read_bytes())
        if kind == "delete":
            path.unlink()
        else:
            place = rng.randrange(len(content))
            if kind == "cut":
                del content[place:]
            elif kind == "flip":
                content[place] ^= 1 << rng.randrange(8)
            else:
                content += b"\x00"
            path.write_bytes(content)
        hit = (
            [path.parent.name]
            if path.parent != folder
            else [n for n, m in reference.items() if (m.best or [""])[0] == path.name]
        )
        for name, manifest in reference.items():
            checkpoints = CheckpointFolder(folder)
            if name in hit:
                with contextlib.suppress(CheckpointError):
                    # A change of blanks in the JSON is none.
                    assert checkpoints.verify(name) == manifest and path.name == MANIFEST, (kind, path)
            else:
                assert checkpoints.verify(name) == manifest
        shutil.rmtree(folder)


def test_a_checkpoint_that_lacks_a_part_is_never_published(runs: ForkedRuns, tmp_path: Path) -> None:
    """A stand-in for a layout of DeepSpeed that is not understood in full: one tensor is not written."""
    ended = runs.run(tmp_path / "run", at=("lost", 2), **CUT)
    assert ended.codes == [2] and "Traceback" not in ended.out, ended.out
    assert "error: CheckpointError: the checkpoint of step 6 was not saved: " in ended.out
    assert "The last complete checkpoint is step-3" in ended.out
    assert CheckpointFolder(tmp_path / "run/checkpoints").names() == ["step-3"]
