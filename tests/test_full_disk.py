"""Full disks: real ones (a tmpfs of 1 MB), named by whose file it was; other errors keep their own words."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hyperformer import disk_space
from hyperformer.data.cache.array_file import keep_arrays
from hyperformer.disk_space import explain_disk_full, is_disk_full, write_error
from hyperformer.errors import CheckpointError, DiskFull


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB and 10 files."""
    disk = tmp_path / "small"
    disk.mkdir()
    options = "size=1m,nr_inodes=10"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full; the error of the system, which names no file."""
    with path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1 << 16))


def test_the_runs_own_disk(small: Path) -> None:
    with pytest.raises(OSError) as caught:
        fill(small / "file")
    told = str(write_error(caught.value, small / "checkpoints"))
    assert type(write_error(caught.value, small)) is DiskFull
    for part in (
        f"{small / 'checkpoints'} could not be written",
        f"file system {small} is full (0 MB free of 1 MB)",
    ):
        assert part in told
    assert "Free some space there, then start the same command again" in told and "TMPDIR" not in told
    with pytest.raises(DiskFull, match=f"file system {small} is full"), explain_disk_full(small / "run"):
        fill(small / "file")


def test_a_cache_without_room(small: Path) -> None:
    arrays = {"ids": np.arange(1 << 19, dtype=np.int32)}
    with pytest.warns(
        UserWarning, match=r"one.bin: tokenised rows are not kept \(No space left on device\), so each"
    ):
        facts, kept = keep_arrays(small / "tokenized/one.bin", {"n": 1}, arrays)
    assert facts == {"n": 1} and kept["ids"] is arrays["ids"]
    assert not list((small / "tokenized").iterdir())


def test_no_more_files(small: Path) -> None:
    with pytest.raises(DiskFull, match="no inodes free: it takes no more files"), explain_disk_full():
        for number in range(20):
            (small / str(number)).touch()


@pytest.mark.parametrize(
    ("variable", "place", "advice"),
    [("HF_HOME", "hub/models--t5", "HF_HOME"), ("TMPDIR", "x", "TMPDIR"), ("", "nccl-1", "--shm-size")],
)
def test_anothers_disk_is_not_called_the_runs(
    variable: str, place: str, advice: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names a file, or nothing at all: then the disk that is full is looked for."""
    run = tmp_path / "run"
    if variable:
        monkeypatch.setenv(variable, str(small))
    else:
        monkeypatch.setattr(disk_space, "SHARED_MEMORY", small)
    with pytest.raises(OSError) as caught:
        fill(small / "file")
    named = OSError(errno.ENOSPC, "No space left on device", str(small / place))
    in_words = RuntimeError(f"cannot create segment {small / place} (size 9): No space left on device")
    for error in (named, in_words, caught.value):
        with pytest.raises(DiskFull) as told, explain_disk_full(among=[run]):
            raise error
        assert advice in str(told.value) and f"file system {small} is full" in str(told.value)
        assert str(run) not in str(told.value)


def test_no_place_is_guessed(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    words = "a file could not be written: .* Room now: .*MB free of"
    with pytest.raises(DiskFull, match=words) as told, explain_disk_full(among=[tmp_path]):
        raise error
    assert f"{tmp_path} (" in str(told.value)


def test_a_quota(tmp_path: Path) -> None:
    told = str(write_error(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), tmp_path / "x"))
    assert f"{tmp_path / 'x'} could not be written: your quota on the file system /" in told


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EFBIG, errno.EROFS, errno.ESTALE])
def test_other_errors_keep_their_words(number: int, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number))
    assert not is_disk_full(error)
    told = write_error(error, tmp_path)
    assert type(told) is CheckpointError and os.strerror(number) in str(told) and "space" not in str(told)
    with pytest.raises(OSError) as caught, explain_disk_full(tmp_path):
        raise error
    assert caught.value is error
    assert not is_disk_full(RuntimeError("CUDA out of memory"))
