"""The documentation names what exists: paths, functions, make targets, commands, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT
from test_house import LAYERS

from hyperformer.data.tasks.user_tasks import load_user_tasks
from hyperformer.settings.config_files import load_config
from launchers.api import Sweep
from launchers.cli.parser import parse
from launchers.plan.sweep_file import read_stages

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
# Names that stand for the user's own: sweeps/X.yaml, clusters/NAME.yaml, configs/<variant>.json.
PLACEHOLDER = re.compile(r"[A-Z]+\.yaml$|[<{]")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def quoted(page: str) -> list[str]:
    """What stands in backticks outside of blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in a block without a language."""
    for language, block in FENCE.findall(text(page)):
        for line in block.replace("\\\n", " ").splitlines():
            if not language and re.match(r"([A-Z_]+=\S+ )?(hyperformer|python|bash|make) ", line):
                words = shlex.split(line.partition(" && ")[0], comments=True)
                yield words[1:] if "=" in words[0] else words


# What commands write into a clone; `make demo` may have run before.
WRITTEN = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/")}


def is_path(word: str) -> bool:
    """Whether a word names something of this repository, seen from its root."""
    if not re.fullmatch(r"[\w.+*-][\w.+*/-]*", word) or PLACEHOLDER.search(word):
        return False
    first, slash, _ = word.partition("/")
    if first in WRITTEN:
        return False
    return (
        (ROOT / first).exists()
        if not slash or (ROOT / first).exists()
        else word.endswith((".py", ".md", ".sh"))
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_text_exist(page: Path) -> None:
    words = [word for word in quoted(text(page)) if is_path(word)]
    assert not [word for word in words if not list(ROOT.glob(word))]
    files = {
        path.name
        for folder in ("hyperformer", "launchers", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    bare = {word for word in quoted(text(page)) if re.fullmatch(r"\w+\.py", word)}
    assert bare <= files | {"setup.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCE.sub("", text(page))):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", text(target), re.M) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, link


def test_functions_that_contributing_names_are_in_their_files() -> None:
    wrong = []
    for row in text(ROOT / "CONTRIBUTING.md").splitlines():
        source = ""
        for kind, name in re.findall(r"(class )?`([^`]+)`", row):
            if name.endswith(".py") and "/" in name:
                source = text(ROOT / name)
            elif kind or name.endswith("()") or re.fullmatch(r"[A-Z_]+", name):
                start = f"class {name}" if kind else f"def {name[:-1]}" if name.endswith("()") else name
                if not re.search(rf"^{re.escape(start)}", source, re.M):
                    wrong.append((name, row))
    assert not wrong


@pytest.mark.parametrize(("column", "package"), [(1, "launchers"), (2, "hyperformer")])
def test_contributing_shows_the_layers(column: int, package: str) -> None:
    table = text(ROOT / "CONTRIBUTING.md").partition("top to bottom")[2].partition("\n\n")[0]
    rows = [set(re.findall(r"`(\w+)(?:\.py|/)`", row.split("|")[column])) for row in table.splitlines()[2:]]
    assert [row for row in rows if row and row != {"hyperformer"}] == LAYERS[package]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sweep.py"])
    targets = set(re.findall(r"^([\w-]+):", text(ROOT / "Makefile"), re.M))
    lines = [*commands(page), *(word.split() for word in quoted(text(page)) if word.startswith("make "))]
    for program, *words in lines:
        if program == "make":
            assert words[0] in targets
        elif program in ("python", "bash"):
            script = next(word for word in words if not word.startswith("-"))
            here = (ROOT / script, ROOT / "hyperformer" / script, ROOT / f"{script.replace('.', '/')}.py")
            assert any(path.is_file() for path in here), script
            if script == "launchers/sweep.py":
                parse(words[1:])
        elif words[0] in ("train", "params") and "--help" not in words:
            load_config(words[1], words[2:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_is_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x")
    path = tmp_path / "page.yaml"
    for block in [block for language, block in FENCE.findall(text(page)) if language == "yaml"]:
        path.write_text(block)
        if block.startswith("name:"):
            for stage in read_stages(path).names:
                assert Sweep.load(f"{path}:{stage}" if stage else path).plan.runs
        elif block.startswith("resources:"):
            path.write_text(f"{block}variants: [finetune]\ntasks: [rte]\n")
            Sweep.load(path)
        elif block.startswith("headlines:"):
            assert load_user_tasks(path)
        else:
            Sweep.load("tour", cluster=str(path))
