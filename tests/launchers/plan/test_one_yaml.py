"""One reader of YAML: a text means the same in a sweep file and as key=value, and follows YAML 1.2."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings import yaml_source
from hyperformer.settings.build import flatten
from hyperformer.settings.config_files import load_config
from hyperformer.settings.yaml_source import read_key_value, read_yaml
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan

# One of each type: whole number, number, truth value, text, text or null, choices, a number or null.
KEYS = (
    "max_steps", "learning_rate", "do_test", "non_linearity", "tokenizer_name", "zero_stage", "lr_scheduler",
    "n_train",
)  # fmt: skip
TEXTS = (
    "012", "1:30", "1:30:00", "0o14", "0x1F", "1_000", "1e-3", "1e3", "3.0", "+3", "-0", ".5", "5.", ".inf", "-.inf",
    ".nan", "inf", "nan", "yes", "no", "on", "off", "y", "true", "True", "TRUE", "tRue", "false", "null", "~", "Null",
    "", "''", '""', "'3'", '"1e-3"', "linear", "'linear'", "constant", "a b", "a: b", "[1, 2]", "[", "{a: 1}", "- a",
    "*a", "&a 3", "!!int 3", "!!int 1:30", "!!str 3", "!x 3", "--- 3", "@a", "%a", "`a", "|", ">", "?", "2024-01-01",
    "0b11", "1,000", "${STEPS}", "${NONE}", "${NONE:-7}", "'${STEPS}'", "1e400", "9" * 5000,
    "\N{ARABIC-INDIC DIGIT ONE}",
    "\x07", "3.0000000000000001", "<<", "=",
)  # fmt: skip


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return repr(read())
    except ConfigError:
        return "refused"


def random_texts(count: int) -> list[str]:
    rng = random.Random(7)
    letters = "0123456789eExXo_.:+-~'\"[]{},&*!|>%@ntTfuy "
    made = ["".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(count)]
    return [text for text in made if not Path(text).exists()]  # a sweep file makes such a path absolute


@pytest.mark.parametrize("key", KEYS)
def test_the_same_text_has_the_same_value_or_the_same_refusal(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", "12")
    path = tmp_path / "s.yaml"

    def in_file(text: str) -> Any:
        path.write_text(f"variants: [adapters_dagger]\ntasks: [rte, cola]\nbase:\n  {key}: {text}\n")
        return flatten(load_plan(str(path), NO_PROFILE).runs[0].config)[key]

    seen = set()
    for text in [*TEXTS, *random_texts(150)]:
        on_the_command_line = outcome(
            lambda text=text: flatten(load_config("adapters_dagger", [f"{key}={text}"]))[key]
        )
        assert on_the_command_line == outcome(lambda text=text: in_file(text)), text
        seen.add(on_the_command_line)
    assert "refused" in seen and len(seen) > 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("012", "012"), ("0o14", 12), ("0x1F", 31), ("1_000", "1_000"), ("1:30", "1:30"), ("yes", "yes"), ("no", "no"),
        ("null", None), ("~", None), ("", None), (".inf", float("inf")), ("1e-3", 0.001), ("+3", 3), ("'3'", "3"),
        ("TRUE", True), ("tRue", "tRue"), ("!!str 3", "3"), ("[1, a]", [1, "a"]), ("0b11", "0b11"),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    found = read_key_value("k", text, "argument").plain()
    assert found == value and type(found) is type(value)


def test_numbers_for_text_are_taken_as_they_are_written() -> None:
    for text in ("1.50", "1e3", "0x1F", "007"):
        assert flatten(load_config("finetune", [f"tokenizer_name={text}"]))["tokenizer_name"] == text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "[" * 900 + "]" * 900,
        "- " * 50_000,
        "".join(" " * depth + "a:\n" for depth in range(700)),
    ],
    ids=["open", "lists", "dashes", "maps"],
)
def test_no_depth_ends_the_process(text: str, tmp_path: Path) -> None:
    """The loader in C has no limit of its own."""
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="nested too deeply|not YAML"):
        read_yaml(tmp_path / "s.yaml")


def test_both_loaders_read_a_text_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shipped sweeps, and pieces of them with characters changed: the same values, lines and errors."""
    shipped = [path.read_text() for path in sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))]
    draw = random.Random(0)
    texts = [*shipped, *(_changed_piece(draw.choice(shipped), draw) for _ in range(100))]

    def read(text: str) -> object:
        (tmp_path / "s.yaml").write_text(text)
        try:
            return read_yaml(tmp_path / "s.yaml")
        except ConfigError as error:
            return str(error)

    fast = [read(text) for text in texts]
    monkeypatch.setattr(yaml_source, "_FastLoader", yaml_source._Loader)
    assert fast == [read(text) for text in texts]


def _changed_piece(text: str, draw: random.Random) -> str:
    start = draw.randrange(len(text))
    piece = list(text[start : start + draw.randrange(5, 120)])
    for _ in range(draw.randrange(1, 5)):
        piece.insert(
            draw.randrange(len(piece) + 1), draw.choice(" \t\n:-{}[],'\"#&*!|>%@`?0aé日~\\\x85\u2028")
        )
    return "".join(piece)
