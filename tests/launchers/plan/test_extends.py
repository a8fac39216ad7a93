"""`extends:`: a sweep file on top of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.plan.plan import Plan

LOWER = """
    name: lower
    base: {max_steps: 1000, warmup_steps: 0, learning_rate: 1e-3}
    variants: [hyperformer++, adapters, finetune]
    tasks: [rte, cola]
    grid: {seed: [1, 2], reduction_factor: [16, 32]}
    overrides: {adapters: {num_train_epochs: 3}, finetune: {learning_rate: 1e-4}}
    exclude: [{reduction_factor: 16, seed: 2}]
    resources: {time: 60, mem_gb: 8, variants: {finetune: {mem_gb: 32}, adapters: {mem_gb: 4}}}
    """
Write = Callable[..., Path]


@pytest.fixture
def extended(write_sweep: Write) -> Callable[[str], Plan]:
    write_sweep(LOWER, "lower.yaml")
    return lambda text: load_plan(str(write_sweep(f"extends: lower.yaml\n{text}")), NO_PROFILE)


def values(plan: Plan, *keys: str) -> set[tuple[object, ...]]:
    return {tuple(flatten(run.config)[key] for key in ("variant", *keys)) for run in plan.runs}


def test_mappings_merge_and_the_upper_file_has_the_last_word(extended: Callable[[str], Plan]) -> None:
    plan = extended("base: {learning_rate: 1e-2}\nresources: {variants: {finetune: {mem_gb: 64}}}")
    assert plan.name == "s"  # a name is not taken over: it is the folder of the other sweep's runs
    assert values(plan, "max_steps", "learning_rate", "num_train_epochs") == {
        ("hyperformer++", 1000, 0.01, None), ("adapters", 65536, 0.01, 3.0), ("finetune", 1000, 0.01, None),
    }  # fmt: skip
    memory = {run.config.variant: (run.resources.time, run.resources.mem_gb) for run in plan.runs}
    assert memory == {"hyperformer++": (60, 8), "adapters": (60, 4), "finetune": (60, 64)}


@pytest.mark.parametrize(
    ("text", "steps_and_seeds"),
    [
        # Said for all runs, so it holds for all: also where the lower file has it in grid or overrides.
        ("base: {max_steps: 5, seed: 7}", {(5, None, 7)}),
        ("base: {max_steps: 5}\ngrid: {seed: [3]}", {(5, None, 3)}),
        ("base: {max_steps: 5}\nzip: {seed: [3, 4], task_embedding_dim: [8, 16]}", {(5, None, 3), (5, None, 4)}),
        ("base: {max_steps: 5}\ngrid: {seed: }", {(5, None, 42)}),
        ("base: {max_steps: 5}\ngrid:\nexclude:", {(5, None, 42)}),
        ("base: {max_steps: 5, seed: 1}\noverrides: {adapters: {max_steps: 9}}", {(5, None, 1), (9, None, 1)}),
    ],
)  # fmt: skip
def test_a_setting_of_the_upper_file(
    extended: Callable[[str], Plan], text: str, steps_and_seeds: set[object]
) -> None:
    plan = extended(text)
    assert {found[1:] for found in values(plan, "max_steps", "num_train_epochs", "seed")} == steps_and_seeds


def test_variants_and_tasks_of_the_upper_file(extended: Callable[[str], Plan]) -> None:
    plan = extended("variants: [adapters]\ntasks: [mrpc]\nexclude: [{reduction_factor: 16}]")
    assert {(run.config.variant, run.config.data.tasks, run.config.seed) for run in plan.runs} == {
        ("adapters", ("mrpc",), 1), ("adapters", ("mrpc",), 2),
    }  # fmt: skip


def test_several_files_each_on_top_of_the_one_before(write_sweep: Write) -> None:
    write_sweep(LOWER, "lower.yaml")
    write_sweep("base: {max_steps: 8, seed: 9}\nresources: {mem_gb: 1}", "size.yaml")
    plan = load_plan(str(write_sweep("extends: [lower.yaml, size.yaml]\nbase: {seed: 3}")), NO_PROFILE)
    assert {found[1:] for found in values(plan, "max_steps", "seed")} == {(8, 3)}
    assert "extends" in plan.text and "# base: {max_steps: 8, seed: 9}" in plan.text


def test_nothing_takes_away_what_is_there(extended: Callable[[str], Plan]) -> None:
    for text, key in {"zip:": "zip", "overrides: {hyperformer++: }": r"overrides.hyperformer\+\+"}.items():
        with pytest.raises(ConfigError, match=f"s.yaml, line 2, {key}: has no value, which removes"):
            extended(text)
    for group in ("grid", "zip"):
        with pytest.raises(
            ConfigError, match=f"s.yaml, line 2, {group}.sed: unknown setting 'sed'; did you mean 'seed'"
        ):
            extended(f"{group}: {{sed: }}")
    assert {len(run.config.data.tasks) for run in extended("variants: [hyperformer++]\ntasks:").runs} == {8}


def test_errors_name_the_file_that_says_it(write_sweep: Write, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write_sweep("variants: [adapters]\ntasks: [rte]\nbase:\n  seeed: 3\n", "below/lower.yaml")
    upper = write_sweep("extends: below/lower.yaml\nbase: {max_steps: 0}\n")
    with pytest.raises(ConfigError, match=r"below/lower.yaml, line 4, base.seeed: unknown setting"):
        load_plan(str(upper), NO_PROFILE)
    write_sweep("variants: [adapters]\ntasks: [rte]\n", "below/lower.yaml")
    with pytest.raises(ConfigError, match=r"s.yaml, line 2, base.max_steps: "):
        load_plan(str(upper), NO_PROFILE)


def test_files_that_are_not_there_or_extend_themselves(write_sweep: Write) -> None:
    write_sweep(LOWER, "lower.yaml")
    for text, message in {
        "extends: nothing.yaml": "line 1, extends: nothing.yaml: no such sweep file",
        "extends: 3": "line 1, extends: must be the name or path of a sweep file, not 3",
        "extends: [lower.yaml, 3]": r"line 1, extends\[1\]: must be the name or path of a sweep file, not 3",
        "extends: s.yaml": "line 1, extends: extends itself: s.yaml -> s.yaml",
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_plan(str(write_sweep(text)), NO_PROFILE)
    write_sweep("extends: b.yaml", "a.yaml")
    write_sweep("extends: a.yaml", "b.yaml")
    with pytest.raises(ConfigError, match=r"a.yaml, line 1, extends: .*s.yaml -> b.yaml -> a.yaml -> b.yaml"):
        load_plan(str(write_sweep("extends: b.yaml")), NO_PROFILE)


def test_a_chain_is_the_same_runs_as_one_file(write_sweep: Write, extended: Callable[[str], Plan]) -> None:
    one = load_plan(str(write_sweep(LOWER, "one.yaml")), NO_PROFILE)
    same = extended("")
    assert [run.signature for run in same.runs] == [run.signature for run in one.runs]
    assert "# --- extends" in same.text and "# grid: {seed: [1, 2], reduction_factor: [16, 32]}" in same.text
    write_sweep("extends: s.yaml\nbase: {max_steps: 7}", "upper.yaml")
    top = load_plan(str(write_sweep("extends: upper.yaml\ngrid: {seed: [1]}", "top.yaml")), NO_PROFILE)
    assert {found[1:] for found in values(top, "max_steps", "seed")} == {(7, 1)}
