"""A sweep file -> runs, and the errors on the way: each names file, line and key."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.data.contents import identify
from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten
from hyperformer.settings.config_files import load_config
from hyperformer.settings.signature import signature
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.plan.plan import Plan

PlanOf = Callable[[str], Plan]


def names(plan: Plan) -> list[str]:
    return [run.name for run in plan.runs]


def test_grid_zip_tasks_and_single_task(plan_of: PlanOf) -> None:
    plan = plan_of("""
        base: {max_steps: 7}
        variants: [hyperformer++, adapters]
        tasks: [rte, cola]
        grid: {reduction_factor: [16, 32]}
        zip: {learning_rate: [1e-3, 3e-4], warmup_steps: [10, 20]}
        """)
    assert len(plan.runs) == 4 + 4 * 2
    assert len(set(names(plan))) == len(plan.runs)
    assert "hyperformer++-lr0.001-warmup_steps10-rf16" in names(plan)
    assert "adapters-cola-lr0.0003-warmup_steps20-rf32" in names(plan)
    tied = {(run.config.training.learning_rate, run.config.training.warmup_steps) for run in plan.runs}
    assert tied == {(1e-3, 10), (3e-4, 20)}
    assert {run.config.training.max_steps for run in plan.runs} == {7}
    single = [run for run in plan.runs if run.config.variant == "adapters"]
    assert {run.config.data.tasks for run in single} == {("rte",), ("cola",)}


def test_tasks_one_at_a_time_and_together_in_one_grid(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [hyperformer++]
        tasks: [rte]
        grid: {single_task: [true, false], tasks: [[rte, mrpc], [cola, rte]]}
        """)
    assert plan.merged == 1 and names(plan) == [
        *(f"hyperformer++-{task}-single_taskTrue" for task in ("rte", "mrpc", "cola")),
        *(f"hyperformer++-single_taskFalse-tasks{tasks}" for tasks in ("rte+mrpc", "cola+rte")),
    ]


def test_settings_that_a_variant_does_not_use_make_no_runs(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [finetune, adapters_dagger]
        tasks: [rte, cola]
        grid: {reduction_factor: [16, 32], task_embedding_dim: [8, 64]}
        """)
    assert names(plan) == ["finetune", "adapters_dagger-rf16", "adapters_dagger-rf32"]
    assert plan.merged == 5


def test_a_single_task_run_does_not_sample(plan_of: PlanOf) -> None:
    plan = plan_of("{variants: [adapters], tasks: [rte], grid: {temperature: [1, 10]}}")
    assert names(plan) == ["adapters-rte"]


def test_override_of_one_variant(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [hyperformer++, hyperformer, finetune]
        tasks: [rte, cola]
        grid: {learning_rate: [1e-3, 3e-4]}
        overrides:
          hyperformer++: {seed: [1, 2]}
          finetune: {learning_rate: 1e-5}
        """)
    assert names(plan) == [
        "hyperformer++-lr0.001-seed1",
        "hyperformer++-lr0.001-seed2",
        "hyperformer++-lr0.0003-seed1",
        "hyperformer++-lr0.0003-seed2",
        "hyperformer-lr0.001",
        "hyperformer-lr0.0003",
        "finetune",
    ]
    assert plan.runs[-1].config.training.learning_rate == 1e-5


def test_seeds_share_a_row(plan_of: PlanOf) -> None:
    plan = plan_of(
        "{variants: [adapters], tasks: [rte, cola], grid: {seed: [1, 2], reduction_factor: [8, 16]}}"
    )
    rows = {run.row for run in plan.runs}
    assert rows == {("adapters", (("reduction_factor", "8"),)), ("adapters", (("reduction_factor", "16"),))}


def test_exclude(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [hyperformer++, adapters]
        tasks: [rte, cola, mrpc]
        grid: {reduction_factor: [16, 32]}
        exclude:
          - {variant: hyperformer++, reduction_factor: 16}
          - {variant: adapters, task: [rte, mrpc]}
          - {seed: 999}
        """)
    assert names(plan) == ["hyperformer++", "adapters-cola-rf16", "adapters-cola-rf32"]
    assert plan.excluded == 5
    assert len(plan.notes) == 1 and "line 8" in plan.notes[0] and "matches no run" in plan.notes[0]


def test_lists_of_tasks_in_the_grid(plan_of: PlanOf) -> None:
    plan = plan_of("{variants: [finetune], grid: {tasks: [[rte, cola], [rte]]}}")
    assert names(plan) == ["finetune-tasksrte+cola", "finetune-tasksrte"]


def test_names_of_a_tasks_adapters_go_with_their_task(plan_of: PlanOf) -> None:
    plan = plan_of("{variants: [adapters], tasks: [rte, cola], base: {adapters: [a, b]}}")
    assert [run.config.adapter.adapters for run in plan.runs] == [("a",), ("b",)]


def test_a_run_of_the_plan_is_the_run_of_the_command_line(plan_of: PlanOf) -> None:
    """The same settings give the same signature, however they came together."""
    plan = plan_of("{variants: [hyperformer++], tasks: [rte, cola], base: {seed: 3}}")
    alone = identify(load_config("hyperformer++", ["tasks=rte,cola", "seed=3"]), None, ranks=1)
    assert plan.runs[0].signature == signature(alone)


def test_signatures_do_not_depend_on_resources_or_order(plan_of: PlanOf) -> None:
    one = plan_of("{variants: [finetune, hyperformer], tasks: [rte, cola], resources: {time: 5}}")
    two = plan_of("{tasks: [rte, cola], variants: [hyperformer, finetune], base: {logging_steps: 7}}")
    assert {run.signature for run in one.runs} == {run.signature for run in two.runs}


def test_config_file_alone_and_under_variants(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(
        '{"variant": "mine", "adapter": "task", "tasks": ["rte"], "max_steps": 9}'
    )
    (tmp_path / "shared.json").write_text('{"max_steps": 11, "output_dir": "x"}')
    plan = load_plan(str(write_sweep("{config: mine.json, grid: {seed: [1, 2]}}")), NO_PROFILE)
    assert names(plan) == ["mine-seed1", "mine-seed2"]
    plan = load_plan(
        str(write_sweep("{config: shared.json, variants: [finetune, mine.json], tasks: [rte, cola]}")),
        NO_PROFILE,
    )
    assert names(plan) == ["finetune", "mine"]
    assert {run.config.training.max_steps for run in plan.runs} == {11}
    with pytest.raises(ConfigError, match=r"line 1, config: mine.json says which method .*adapter"):
        load_plan(str(write_sweep("{config: mine.json, variants: [finetune]}")), NO_PROFILE)


def test_resources(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [finetune, hyperformer]
        tasks: [rte, cola]
        resources:
          gpus_per_node: 2
          time: 1:30:30
          mem_gb: 1.5
          max_parallel: 3
          variants: {finetune: {gpus_per_node: 0, time: 2-00:00:00, partition: big}}
        """)
    finetune, hyperformer = (run.resources for run in plan.runs)
    assert (finetune.gpus_per_node, finetune.ranks, finetune.time, finetune.partition) == (0, 1, 2880, "big")
    assert (hyperformer.gpus_per_node, hyperformer.ranks, hyperformer.time) == (2, 2, 91)
    assert hyperformer.mem_gb == finetune.mem_gb == 1.5
    assert plan.max_parallel == 3


def test_environment_variables(plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "12")
    text = "{variants: [finetune], tasks: [rte, cola], base: {max_steps: '${STEPS}'}}"
    with pytest.raises(ConfigError, match="max_steps is '12', but must be a whole number"):
        plan_of(text)  # quoted: text
    block = "variants: [finetune]\ntasks: [rte, cola]\nbase:\n  max_steps: {}\n"
    assert plan_of(block.replace("{}", "${STEPS}")).runs[0].config.training.max_steps == 12
    assert plan_of(block.replace("{}", "${NO_STEPS:-13}")).runs[0].config.training.max_steps == 13
    with pytest.raises(ConfigError, match=r"s.yaml, line 4, base.max_steps: .*NO_STEPS is not set; .*export"):
        plan_of(block.replace("{}", "${NO_STEPS}"))


def test_paths_become_absolute(plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glue").mkdir()
    (tmp_path / "toy").mkdir()
    plan = plan_of("""
        variants: [finetune]
        tasks: [rte, cola]
        base: {data_source: folder, data_dir: glue, model_name_or_path: toy}
        """)
    assert plan.runs[0].config.data.data_dir == str(tmp_path / "glue")
    assert plan.runs[0].config.model.model_name_or_path == "toy"  # ours, not the folder of that name


HEAD = "variants: [finetune, hyperformer]\ntasks: [rte, cola]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant: [finetune]", "line 1, variant: unknown key 'variant'; did you mean 'variants'"),
        ("tasks: [rte]", "line 1: must have `variants:`"),
        ("", "line 1: must have `variants:`"),
        ("[1]", "line 1: must be a mapping"),
        ("variants: [finetun]", r"line 1, variants\[0\]: .*did you mean 'finetune'"),
        ("variants: [finetune, finetune]", r"line 1, variants\[1\]: 'finetune' is named twice"),
        ("variants: finetune", "line 1, variants: must be a list"),
        ("variants: []", "line 1, variants: is an empty list"),
        ("variants: [finetune]\ntasks: []", "line 2, tasks: is an empty list"),
        ("variants: [finetune]\ntasks: [rte,\n  rtx]", r"line 3, tasks\[1\]: .*'rtx'; did you mean 'rte'"),
        ("variants: [finetune]\ntasks: [rte, rte]", "line 2, tasks: tasks is .*names a task twice"),
        (HEAD + "seed: 3", "line 3, seed: unknown key 'seed' .*under `base:`"),
        (HEAD + "base: {sed: 3}", "line 3, base.sed: unknown setting 'sed'; did you mean 'seed'"),
        (HEAD + "base:\n  seed: -3", "line 4, base.seed: seed is -3, but must be at least 0"),
        (HEAD + "base:\n  seed: two", "line 4, base.seed: seed is 'two', but must be a whole number"),
        (HEAD + "base:\n  do_test: yes", "line 4, base.do_test: .*must be true or false"),
        (HEAD + "base:\n  seed: [1, 2]", "line 4, base.seed: base takes one value; several go under `grid:`"),
        (HEAD + "base: {output_dir: x}", "line 3, base.output_dir: the launcher gives"),
        (HEAD + "base: {tasks: [rte]}", "line 3, base.tasks: name tasks under `tasks:`"),
        (HEAD + "base: {data_source: folder}", "line 3|data_dir.*data_source=folder needs it"),
        (HEAD + "grid:\n  seed: 1", "line 4, grid.seed: must be a list"),
        (HEAD + "grid:\n  seed: [1,\n   -2]", r"line 5, grid.seed\[1\]: seed is -2"),
        (HEAD + "grid:\n  seed: [1, 1]", r"line 4, grid.seed\[1\]: 1 is given twice"),
        (HEAD + "grid: {tasks: [rte]}", r"line 3, grid.tasks\[0\]: tasks is a list, so grid takes a list of"),
        (HEAD + "grid: {seed: [[1]]}", r"line 3, grid.seed\[0\]: must be one value of seed"),
        (HEAD + "grid: {variant: [a]}", "line 3, grid.variant: name variants under"),
        (
            HEAD + "zip: {seed: [1, 2], max_steps: [1]}",
            "line 3, zip.seed: .*the same length, but seed has 2, max",
        ),
        (HEAD + "zip: {seed: [1]}\ngrid: {seed: [1]}", "line 3, zip.seed: seed is in `grid:` too"),
        (HEAD + "overrides: {finetun: {}}", "line 3, overrides.finetun: .*did you mean 'finetune'"),
        (HEAD + "overrides: {finetune: {sed: 1}}", "line 3, overrides.finetune.sed: unknown setting"),
        (
            HEAD + "overrides:\n  finetune:\n    seed: [1, x]",
            r"line 5, overrides.finetune.seed\[1\]: seed is 'x'",
        ),
        (
            HEAD + "zip: {seed: [1]}\noverrides: {finetune: {seed: [1, 2]}}",
            "line 4, overrides.finetune.seed: seed is tied",
        ),
        (HEAD + "exclude: [{sed: 1}]", r"line 3, exclude\[0\].sed: unknown setting"),
        (HEAD + "exclude: [{}]", r"line 3, exclude\[0\]: would exclude every run"),
        (HEAD + "exclude: [{seed: 42}]", "no run is left: `exclude` drops all 2"),
        (
            HEAD + "resources: {gpu_per_node: 1}",
            "line 3, resources.gpu_per_node: .*; did you mean 'gpus_per",
        ),
        (HEAD + "resources: {time: 1:00}", "line 3, resources.time: must be minutes .* not '1:00'"),
        (HEAD + "resources: {gpus_per_node: -1}", "line 3, resources.gpus_per_node: .*at least 0, .*not -1"),
        (HEAD + "resources: {cpus_per_task: true}", "line 3, resources.cpus_per_task: .*not True"),
        (HEAD + "resources: {mem_gb: -1}", "line 3, resources.mem_gb: must be a number of GB, or 0 or all"),
        (HEAD + "resources: {partition: 'a b'}", "line 3, resources.partition: must be the name of a part"),
        (HEAD + "resources: {max_parallel: 0}", "line 3, resources.max_parallel: .*at least 1"),
        (HEAD + "resources: {variants: {x: {}}}", "line 3, resources.variants.x: 'x' is none of"),
        (
            HEAD + "name: .x",
            "'.x' cannot name a folder; use letters, digits and _ [+] - [.] [(]not a dot first",
        ),
        (HEAD + "name: ../x", "line 3, name|name: '../x' cannot name a folder"),
        (HEAD + "tasks: [rte]", "line 3: 'tasks' is given twice .first on line 2"),
        (HEAD + "base: {seed: 1", "line 3: not YAML"),
        (HEAD + "base: !!python/object:os.system {}", "line 3, base: the tag .* is not supported"),
        (HEAD + "base: !x 1", "line 3, base: the tag !x is not supported"),
        (HEAD + "base: &a {seed: [*a]}", "line 3, .*alias"),
        (HEAD + "base: {1: 2}", "line 3, base.1: unknown setting '1'"),
        (HEAD + "config: {a: 1}", "line 3, config: must be the name or path of a config file"),
    ],
)
def test_errors_name_file_line_and_key(write_sweep: Callable[[str], Path], text: str, message: str) -> None:
    path = write_sweep(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan(str(path), NO_PROFILE)
    assert str(path) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_error_in_a_variants_own_config_names_that_file(
    write_sweep: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.json").write_text('{"tasks": ["rte"], "seed": -1}')
    with pytest.raises(ConfigError, match=r"s.yaml, line 2, variants\[0\]: seed is -1, .*mine.json"):
        load_plan(str(write_sweep("variants:\n  - mine.json")), NO_PROFILE)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml", "sweeps/nowhere.yaml"])
def test_no_such_sweep(name: str) -> None:
    with pytest.raises(ConfigError, match="no such sweep file; there are: .*demo"):
        load_plan(name, NO_PROFILE)


def test_shipped_sweeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPERFORMER_DATA", "/data")
    monkeypatch.setenv("HYPERFORMER_MODEL", "/model")
    monkeypatch.chdir(tmp_path)
    six = {"hyperformer++", "hyperformer", "adapters_dagger", "adapters", "finetune", "finetune_single_task"}
    demo, glue, local, tour = (
        load_plan(name, NO_PROFILE) for name in ("demo", "sweeps/glue.yaml", "glue-local", "tour")
    )
    assert [run.config.training.max_steps for run in tour.runs] == [100] * 4
    for plan in (demo, glue, local):
        assert {run.config.variant for run in plan.runs} == six
    assert len(demo.runs) == 11
    assert len(demo.runs[0].config.data.tasks) == 3
    # seeds x (3 variants with adapters x 2 factors + adapters x 2 x 8 tasks + finetune + single x 8)
    assert len(glue.runs) == 3 * (3 * 2 + 2 * 8 + 1 + 8)
    assert len(local.runs) == 4 + 2 * 5


def test_awkward_values_make_safe_names(plan_of: PlanOf) -> None:
    plan = plan_of("""
        variants: [finetune]
        tasks: [rte, cola]
        grid: {model_name_or_path: ["../a b", "$(x)/y", "../a*b", "\\n"]}
        """)
    for run in plan.runs:
        assert "/" not in run.name and " " not in run.name and not run.name.startswith(".")
    assert len(set(names(plan))) == 4


def test_ten_thousand_runs_in_seconds(write_sweep: Callable[[str], Path]) -> None:
    seeds = ", ".join(map(str, range(5000)))
    path = write_sweep(f"variants: [finetune, hyperformer]\ntasks: [rte, cola]\ngrid: {{seed: [{seeds}]}}\n")
    began = time.process_time()
    plan = load_plan(str(path), NO_PROFILE)
    assert len(plan.runs) == 10_000
    assert time.process_time() - began < 20  # 4 s on an idle core
    assert flatten(plan.runs[-1].config)["seed"] == 4999


def test_documented_example(plan_of: PlanOf) -> None:
    text = textwrap.dedent(
        """
        name: lr
        base: {max_steps: 100}
        variants: [hyperformer++, finetune]
        tasks: [rte, cola]
        grid: {seed: [1, 2], reduction_factor: [16, 32]}
        zip: {learning_rate: [1e-3, 3e-4], warmup_steps: [10, 20]}
        exclude: [{variant: finetune, learning_rate: 1e-3}]
        overrides: {finetune: {seed: 1}}
        """
    )
    plan = plan_of(text)
    assert plan.name == "lr"
    assert len(plan.runs) == 8 + 1


def test_one_map_of_starts_serves_runs_of_other_tasks(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    """The entries of a run's own tasks are its own; a setting that its method lacks makes no difference."""
    text = """
        variants: [adapters, hyperformer++, finetune]
        tasks: [scitail, imdb]
        base: {init_from: RUN, init_tasks: STARTS}
        """
    text = text.replace("RUN", str(tmp_path / "later"))
    plan = plan_of(text.replace("STARTS", "{scitail: mnli, imdb: sst2, trec: null}"))
    found = {run.name: run.config.model.init_tasks for run in plan.runs}
    assert found == {
        "adapters-scitail": {"scitail": "mnli"},
        "adapters-imdb": {"imdb": "sst2"},
        "hyperformer++": {"scitail": "mnli", "imdb": "sst2"},
        "finetune": None,
    }
    assert not any(run.is_read for run in plan.runs)  # the run to start from is not there yet
    with pytest.raises(ConfigError, match=r"line 4, base.init_tasks: .*'imbd'.*did you mean 'imdb'"):
        plan_of(text.replace("STARTS", "{imbd: sst2}"))


def test_a_deepspeed_file_must_fit_every_run(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    """Its contradictions are errors of the plan; with "auto" it serves all stages, and makes no other runs."""
    path = tmp_path / "ds.json"
    sweep = "{variants: [finetune], tasks: [rte], grid: {zero_stage: [1, 2]}, base: {deepspeed_config: %s}}"
    path.write_text('{"zero_optimization": {"stage": 2}}')
    with pytest.raises(
        ConfigError, match="stage is 2, but the setting zero_stage is 1; write zero_stage=2, or"
    ):
        plan_of(sweep % path)
    path.write_text('{"zero_optimization": {"stage": "auto", "overlap_comm": true}}')
    plans = [plan_of(sweep % each) for each in (path, "null")]
    assert len({run.signature for plan in plans for run in plan.runs}) == 2


def test_one_config_under_several_labels(plan_of: Callable[[str], Plan]) -> None:
    text = """
        variants: [hyperformer, {no-norms: hyperformer}]
        tasks: [rte]
        overrides: {no-norms: {unfreeze_layer_norms: false}}
        """
    plan = plan_of(text)
    assert {run.name: run.config.model.unfreeze_layer_norms for run in plan.runs} == {
        "hyperformer": True,
        "no-norms": False,
    }
    assert [run.row[0] for run in plan.runs] == ["hyperformer", "no-norms"]
    for entry, message in {
        "{hyperformer: adapters}": "'hyperformer' is named twice",
        "{a: hyperformer, b: adapters}": r"line 2, variants\[1\]: must be one \{LABEL: CONFIG\}",
        "{a/b: hyperformer}": "'a/b' cannot name a variant",
        "{a: hyperfrmer}": r"line 2, variants\[1\].a: hyperfrmer: no such config file; did you mean",
    }.items():
        with pytest.raises(ConfigError, match=message):
            plan_of(text.replace("{no-norms: hyperformer}", entry))
