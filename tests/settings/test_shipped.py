"""A path, or the name of a file that ships: decided in one place for configs, sweeps and profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.config_files import CONFIGS
from hyperformer.settings.shipped import ShippedFiles
from launchers.plan.cluster_profile import PROFILES
from launchers.plan.durations import read_duration
from launchers.plan.sweep_file import SWEEPS


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShippedFiles:
    for name in (
        "old/a.yaml",
        "old/b.yaml",
        "new/a.yaml",
        "work/c.yaml",
        "work/a/x",
        "sweep/c.yaml",
        "sweep/d.yaml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "sweep"))
    return ShippedFiles(
        "thing", ".yaml", (tmp_path / "old", tmp_path / "new"), ("things",), ("local",), " (make one)"
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a", "new/a.yaml"), ("a.yaml", "new/a.yaml"), ("things/b", "old/b.yaml"), ("./b.yaml", "old/b.yaml"),
        ("c.yaml", "work/c.yaml"), ("d.yaml", "sweep/d.yaml"), ("~/d.yaml", "sweep/d.yaml"),
        ("../sweep/d.yaml", "sweep/d.yaml"),
    ],
)  # fmt: skip
def test_found(files: ShippedFiles, tmp_path: Path, name: str, found: str) -> None:
    assert files.find(name, beside=tmp_path / "sweep").resolve() == tmp_path / found


@pytest.mark.parametrize("name", ["c", "d"])
def test_the_suffix_is_missing(files: ShippedFiles, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"no such thing; there is a file of that name: write {name}\.yaml"
    ):
        files.find(name, beside=tmp_path / "sweep")


@pytest.mark.parametrize("name", ["other/a", "/a.yaml", "", "~nobody/a", "a\0", "x" * 5000, "loca"])
def test_not_found(files: ShippedFiles, name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"no such thing(; there are: a, b, local|; did you mean .*) \(make one\)"
    ):
        files.find(name)


def test_what_ships_is_found_by_name() -> None:
    for kind, name in ((CONFIGS, "hyperformer++"), (SWEEPS, "demo"), (PROFILES, "example")):
        assert kind.find(name).stem == name
        found = kind.find(f"{kind.prefixes[0]}/{name}{kind.suffix}")
        assert found.resolve() == kind.find(name).resolve()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4:05", 245), ("03:04:05", 11045), ("2-03", 183600), ("2-03:04", 183840), ("2-03:04:05", 183845),
        ("00:00:01.250", 1), ("UNLIMITED", None), ("INVALID", None), ("", None), ("1-", None), ("90", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: int | None) -> None:
    assert read_duration(text) == seconds
