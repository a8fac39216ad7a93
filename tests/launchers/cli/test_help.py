"""Every command and option that README and docs name exists, and every command's --help says what it takes."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from test_docs import PAGES, quoted

from hyperformer import cli, finetune_t5_trainer, pretrain
from hyperformer.settings.values import settings
from launchers import sweep
from launchers.cli import container
from launchers.cli.parser import COMMANDS, parse
from launchers.submit.preflight import NAMES

# Programs of others, whose options our pages name.
OTHERS = {
    "docker", "apptainer", "srun", "sbatch", "scontrol", "squeue", "git", "pip", "apt-get", "torchrun", "deepspeed",
    "make",
}  # fmt: skip
# Their options that stand alone in a sentence.
OF_OTHERS = {
    "--export", "--parsable", "--signal", "--test-only", "--wckey", "--clusters", "--gres", "--begin",  # sbatch
    "--gpus", "--shm-size", "--user", "--network", "--cpus", "--cpuset-cpus", "--stop-timeout", "--secret",  # docker
    "--read-only", "--tmpfs", "--device", "--runtime", "--rm", "--nv", "--build-arg",
}  # fmt: skip


def help_of(main: Callable[[], object], *words: str) -> str:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr("sys.argv", ["program", *words, "--help"])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return out.getvalue()


@cache
def helps() -> dict[str, str]:
    """The --help of every command: 'sweep submit', 'hyperformer predict', ..."""
    found = {f"sweep {name}": help_of(sweep.main, name) for name in COMMANDS}
    overview = help_of(cli.main)
    found |= {f"hyperformer {name}": help_of(cli.main, name) for name in listed(overview)}
    return {
        **found,
        "sweep": help_of(sweep.main),
        "hyperformer": overview,
        "trainer": help_of(finetune_t5_trainer.main),
        "pretrain": help_of(pretrain.main),
        "image": container.USAGE,
    }


def listed(overview: str) -> list[str]:
    """The commands that a program's --help lists."""
    return re.findall(r"^    (\w+)(?:  |$)", overview, re.M)


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def test_every_command_is_listed_and_is_a_command_of_the_image() -> None:
    assert sorted(listed(helps()["sweep"])) == sorted(COMMANDS)
    assert sorted(listed(helps()["hyperformer"])) == sorted(container.OF_HYPERFORMER)
    assert all(f" {name}" in container.USAGE for name in container.OF_HYPERFORMER)


@pytest.mark.parametrize("name", ["sweep submit", "sweep retry"])
def test_findings_that_can_be_ignored_are_in_the_help(name: str) -> None:
    told = re.sub(r"-\s+", "-", helps()[name])  # argparse breaks lines at hyphens
    assert all(re.search(rf"\b{finding}\b", told) for finding in NAMES)


def test_every_setting_is_in_the_help_with_its_choices() -> None:
    told = " ".join(helps()["hyperformer train"].split())
    for name, entry in settings().items():
        assert f"{name}=" in told
        assert all(str(choice) in told for choice in entry.choices or ())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_meaning(command: str) -> None:
    told = helps()[f"sweep {command}"]
    for line in re.findall(r"^  (-.*)$", told, re.M):
        assert re.search(r"  \S|^-\S+( \S+)?$", line), line


def command_lines(page: str) -> Iterator[str]:
    """The lines of code blocks without a language, joined where they go on."""
    for block in re.findall(r"^```\n(.*?)^```$", page, re.M | re.S):
        yield from block.replace("\\\n", " ").splitlines()


def command_of(text: str) -> tuple[str, list[str]] | None:
    """Which of our commands a line is, and what follows it; None: none of ours."""
    try:
        words = shlex.split(re.sub(r"^.*\| ", "", text), comments=True)
    except ValueError:
        return None
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if not words:
        return None
    name, rest = Path(words[0]).name, words[1:]
    if name == "python" and rest:
        name, rest = (rest[1], rest[2:]) if rest[0] == "-m" else (Path(rest[0]).name, rest[1:])
    if name in ("sweep.py", "hyperformer-sweep"):
        is_command = bool(rest) and (rest[0] in COMMANDS or rest[0] == "--help")
        return f"sweep {rest[0] if is_command else 'submit'}", rest
    if name == "hyperformer" and rest and re.match(r"[a-z-]", rest[0]):  # not a row of a table
        return f"hyperformer {rest[0]}", rest
    if name == "hyperformer.pretrain":
        return "pretrain", rest
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = []
    for line in [*command_lines(text), *quoted(text)]:
        found = command_of(line)
        if found is None or found[0].endswith("--help") or "..." in line:
            continue
        name, words = found
        if name not in helps():
            wrong.append(f"no such command: {line}")
            continue
        given = {re.sub(r"=.*", "", word) for word in words if re.match(r"--?[a-z]", word)}
        wrong += [f"{name} has no {option}: {line}" for option in given - options(helps()[name])]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_stand_alone_exist(page: Path) -> None:
    """In a sentence: `--ignore account,qos`, `retry --failed`."""
    known = set().union(*(options(told) for told in helps().values())) | OF_OTHERS
    wrong = []
    for text in quoted(page.read_text(encoding="utf-8")):
        first = text.split()[0]
        if first in OTHERS or text.startswith(("benchmarks/", "python benchmarks/")):
            continue
        of_command = helps().get(f"sweep {first}")
        there = options(of_command) if of_command else known
        wrong += [
            f"{text}: {option}"
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", text)
            if option not in there
        ]
    assert not wrong


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("logs s.yaml * --rank \u00b2", "must be a rank's number or all"),
        ("logs s.yaml * --rank 99999999999", "must be a rank's number or all"),
        ("submit s.yaml --max-parallel \u0663", "must be a whole number"),
        ("submit s.yaml --cluster=", "--cluster: is empty"),  # a variable of the shell that is not set
        ("submit s.yaml --runs-dir=", "--runs-dir: is empty"),
        ("bundle s.yaml --out=", "--out: is empty"),
        ("staus s.yaml", "'staus' is no command; did you mean 'status'?"),
        ("s.yaml seed=3", "unrecognized arguments: seed=3"),
    ],
)
def test_words_that_are_refused(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(words.split(" "))
    assert told in capsys.readouterr().err


def test_no_words_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse([])
    assert "\n    submit " in capsys.readouterr().err
    assert cli.main([]) == 2
    assert "\n    train " in capsys.readouterr().err
