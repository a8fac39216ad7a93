"""One reader of YAML: a text means the same in a sweep file and as key=value, and follows YAML 1.2."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten
from hyperformer.settings.config_files import load_config
from hyperformer.settings.yaml_source import read_key_value
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
