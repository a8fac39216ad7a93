"""The copy of the code that jobs run: what is in it, what is not, and how cheap it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launchers.store import checkout, code_snapshot
from launchers.store.code_snapshot import Snapshot


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e", *words], check=True)


def test_snapshot_has_what_git_has_and_what_is_not_committed(tmp_path: Path) -> None:
    code = tmp_path / "my 'code'"
    code.mkdir()
    git(code, "init", "-q")
    git(code, "remote", "add", "origin", "https://user:secret-token@example.org/x")
    for name, text in ((".gitignore", "ignored\n"), ("a.py", "a = 1\n"), ("gone.py", "")):
        (code / name).write_text(text)
    git(code, "add", "-A")
    git(code, "commit", "-q", "-m", "c")
    (code / "a.py").write_text("a = 2\n")
    (code / "gone.py").unlink()
    for name in ("ignored", "new ä.py"):
        (code / name).write_text("x")
    taken = code_snapshot.take(code, tmp_path / "runs")
    files = {path.name for path in taken.folder.iterdir()}
    assert files == {".gitignore", ".snapshot", "a.py", "new ä.py"}
    assert (taken.folder / "a.py").read_text() == "a = 2\n"
    told = {path.name: path.read_text() for path in (taken.folder / ".snapshot").iterdir()}
    assert "+a = 2" in told["changes.diff"] and "secret-token" not in str(told)
    assert json.loads(told["commit.json"])["commit"] == taken.commit
    assert "numpy==" in told["environment.txt"]
    assert code_snapshot.take(code, tmp_path / "runs") == taken  # the same code is one folder
    (code / "a.py").write_text("a = 3\n")
    assert code_snapshot.take(code, tmp_path / "runs").folder != taken.folder
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_snapshot_without_git(tmp_path: Path) -> None:
    (tmp_path / "code/launchers").mkdir(parents=True)
    (tmp_path / "code/launchers/x.py").write_text("x")
    (tmp_path / "code/other.txt").write_text("not ours")
    taken = code_snapshot.take(tmp_path / "code", tmp_path / "runs")
    assert taken.commit is None and (taken.folder / "launchers/x.py").exists()
    assert not (taken.folder / "other.txt").exists()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A checkout with our two packages, committed."""
    folder = tmp_path / "code"
    for name in ("hyperformer/run.py", "launchers/sweep.py", "mine/tasks.py", "README"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    git(folder, "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "c")


def taken(code: Path) -> Snapshot:
    return code_snapshot.take(code, code.parent / "runs")


def names(snapshot: Snapshot) -> set[str]:
    found = (
        str(path.relative_to(snapshot.folder)) for path in snapshot.folder.rglob("*") if not path.is_dir()
    )
    return {name for name in found if not name.startswith(".snapshot")}


def test_links(code: Path, tmp_path: Path) -> None:
    """Those within the checkout stay; those that lead out of it are told, or copied where that is cheap."""
    outside = tmp_path / "outside"
    (outside / "lib").mkdir(parents=True)
    (outside / "lib/a.py").write_text("a")
    (outside / "small.yaml").write_text("small")
    (outside / ".env").write_text("secret")
    (code / "ignored").mkdir()
    (code / ".gitignore").write_text("ignored\n")
    for name, target in {
        "mine/link.py": "tasks.py", "mine/absolute.py": code / "mine/tasks.py", "folder": "mine",
        "deep/er/up": "../../mine", "lib": outside / "lib", "small.yaml": outside / "small.yaml",
        "gone": "nowhere", "to_ignored": "ignored",
        "harmless": outside / ".env",
    }.items():  # fmt: skip
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).symlink_to(target)
    commit(code)
    found = taken(code)
    links = {
        str(path.relative_to(found.folder)): os.readlink(path)
        for path in found.folder.rglob("*")
        if path.is_symlink()
    }
    assert links == {
        "mine/link.py": "tasks.py", "mine/absolute.py": "tasks.py", "folder": "mine", "deep/er/up": "../../mine",
        "lib": str(outside / "lib"), "to_ignored": str(code / "ignored"),
    }  # fmt: skip
    assert (found.folder / "small.yaml").read_text() == "small"
    assert (found.folder / "deep/er/up/tasks.py").read_text() == "# mine/tasks.py\n"
    note = found.notes[0]
    for told in (
        f"lib (a link to {outside}/lib: jobs use what is there",
        f"gone (a link to {code}/nowhere, which is not",
    ):
        assert told in note
    assert f"to_ignored (a link to {code}/ignored" in note and ".env" not in note
    assert json.loads((found.folder / ".snapshot/commit.json").read_text())["left_out"] == found.code.left_out


def test_a_package_that_is_a_link(code: Path, tmp_path: Path) -> None:
    shutil.move(code / "launchers", tmp_path / "elsewhere")
    (code / "launchers").symlink_to(tmp_path / "elsewhere")
    commit(code)
    found = taken(code)
    assert (found.folder / "launchers/sweep.py").read_text() and not (found.folder / "launchers").is_symlink()
    assert found.code.left_out == []


def test_submodules(code: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "part.py").write_text("part")
    git(library, "init", "-q")
    commit(library)
    for name in ("sub", "other"):
        git(code, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), name)
    commit(code)
    (code / "sub/new.py").write_text("new")  # not committed anywhere
    git(code, "submodule", "deinit", "-q", "-f", "other")
    found = taken(code)
    assert {"sub/part.py", "sub/new.py"} <= names(found) and "other/part.py" not in names(found)
    assert found.code.left_out == ["other (a submodule that is not checked out)"]


def test_a_module_that_git_ignores_is_part_of_its_package(code: Path) -> None:
    (code / ".gitignore").write_text("data/\n")
    for name in ("hyperformer/data/rows.py", "hyperformer/data/cache.bin", "data/x.py"):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text("x")
    assert names(taken(code)) >= {"hyperformer/data/rows.py"}
    assert not {"hyperformer/data/cache.bin", "data/x.py"} & names(taken(code))


@pytest.mark.parametrize(
    "name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_LITERAL_PATHSPECS", "GIT_EXTERNAL_DIFF"]
)
def test_variables_of_the_users_shell(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They made git look at another checkout, and the wrong commit was recorded."""
    (code / "README").write_text("changed\n")
    expected = code_snapshot.read(code, tmp_path / "a").code
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs.py").write_text("x")
    git(other, "init", "-q")
    commit(other)
    values = {
        "GIT_DIR": f"{other}/.git",
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": f"{other}/.git/index",
    }
    monkeypatch.setenv(name, values.get(name, "1"))
    found = code_snapshot.read(code, tmp_path / "a").code
    assert found == expected and found.commit and "+changed" in found.diff and "README" in found.files


def test_settings_of_the_users_git(code: Path) -> None:
    for words in ("color.ui always", "diff.external /bin/false", "diff.noprefix true", "status.short true"):
        git(code, "config", *words.split())
    (code / "README").write_text("changed\n")
    assert "\n+changed\n" in taken(code).code.diff


def test_a_git_that_does_not_answer(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code / ".git/HEAD").write_text("x")
    found = taken(code)
    assert found.commit is None and names(found) == {"hyperformer/run.py", "launchers/sweep.py"}
    assert "all but hyperformer and launchers (git: fatal: " in found.notes[0]


def test_a_source_tree_without_git(code: Path) -> None:
    shutil.rmtree(code / ".git")
    (code / "pyproject.toml").touch()
    assert f"all but hyperformer and launchers ({code} is no git checkout)" in taken(code).notes[0]


def test_folders_of_data_are_not_copied(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 small files took seconds at each change."""
    monkeypatch.setattr(checkout, "_MOST_FILES", 10)
    (code / "data").mkdir()
    for number in range(20):
        (code / f"data/{number}.txt").write_text("row")
    found = taken(code)
    assert names(found) == {"hyperformer/run.py", "launchers/sweep.py", "mine/tasks.py", "README"}
    assert found.code.left_out == ["data (the checkout has 24 files, 0 MB)"]
    for number in range(20):
        (code / f"mine/{number}.py").write_text("x")
    found = taken(code)
    assert names(found) == {"hyperformer/run.py", "launchers/sweep.py"}
    assert found.code.left_out == ["README, data, mine (the checkout has 44 files, 0 MB)"]


def test_what_is_as_before_is_linked(code: Path) -> None:
    first = taken(code)
    (code / "README").write_text("changed\n")
    (code / "mine/tasks.py").chmod(0o755)
    (first.folder / "launchers/sweep.py").write_text("# launchers/sweep.PY\n")  # somebody touched the copy
    second = taken(code)
    assert second.folder != first.folder

    def is_linked(name: str) -> bool:
        return (first.folder / name).samefile(second.folder / name)

    assert is_linked("hyperformer/run.py")
    assert not any(map(is_linked, ("README", "mine/tasks.py", "launchers/sweep.py")))
    assert (second.folder / "launchers/sweep.py").read_text() == "# launchers/sweep.py\n"
    assert os.access(second.folder / "mine/tasks.py", os.X_OK)
    shutil.rmtree(first.folder)
    assert (second.folder / "hyperformer/run.py").read_text() == "# hyperformer/run.py\n"


def test_a_secret_of_today_is_not_linked_to(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code / "mine/tasks.py").write_text("password = 'correct-horse'\n")
    first = taken(code)
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    (code / "README").write_text("changed\n")
    second = taken(code)
    assert "[hidden]" in (second.folder / "mine/tasks.py").read_text()
    assert "correct-horse" in (first.folder / "mine/tasks.py").read_text()  # nobody knew


def test_where_links_cannot_be_made(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(code)
    (code / "README").write_text("changed\n")

    def refuse(*words: str) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert names(taken(code)) == {"hyperformer/run.py", "launchers/sweep.py", "mine/tasks.py", "README"}


def test_code_outside_of_the_checkout_is_told(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, editable = tmp_path / "site", tmp_path / "theirs"
    for folder in (site, editable, tmp_path / "lib"):
        folder.mkdir()
    (tmp_path / "ours/hyperformer").mkdir(parents=True)  # another copy of this code
    (site / "old.pth").write_text(f"import os\n{editable}\n{code_snapshot.CODE}\n/nowhere\n")
    (site / "__editable___new_1_finder.py").write_text(
        f"x = 1\nMAPPING: dict[str, str] = {{'new': '{tmp_path}/new', 'sweeps': '{tmp_path}/ours/sweeps'}}\n"
    )
    monkeypatch.setattr(code_snapshot.sysconfig, "get_path", lambda name: str(site))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/lib:{code_snapshot.CODE}:{tmp_path}/none")
    assert Snapshot(tmp_path).notes == [
        f"not copied, so jobs see what you change there: {tmp_path}/lib (PYTHONPATH), {editable} (old.pth), "
        f"{tmp_path}/new (pip install -e)"
    ]


def test_a_job_that_lacks_a_module_says_what_its_copy_is_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_snapshot, "CODE", tmp_path)
    missing = ModuleNotFoundError("No module named 'mylib'")
    assert code_snapshot.explain_missing([ValueError("x")]) == ""
    assert code_snapshot.explain_missing([missing]) == f" (this job runs the copy of the code in {tmp_path})"
    (tmp_path / ".snapshot").mkdir()
    (tmp_path / ".snapshot/commit.json").write_text(
        '{"left_out": ["mylib (a submodule that is not checked out)"]}'
    )
    told = code_snapshot.explain_missing([ValueError("x"), missing])
    assert told.endswith(", which is without mylib (a submodule that is not checked out))")
