"""`stages:` and `after:` in a sweep file, and which run of an earlier stage a run starts from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import finish

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.files import write_json
from launchers.api import Sweep
from launchers.plan.plan import Run
from launchers.plan.sweep_file import read_stages
from launchers.plan.sweep_keys.stages import is_not_known_yet

TEXT = """
    name: x
    # A setting that one of the variants does not use is none that its source could contradict.
    base: {task_hidden_dim: 32, model_name_or_path: toy, data_source: toy, max_steps: 9, warmup_steps: 0}
    variants: [hyperformer++, adapters]
    tasks: [toy-sentiment, toy-paraphrase]
    stages:
      train:
        grid: {seed: [1, 2], reduction_factor: [4, 8]}
        select: {over: [reduction_factor]}
      transfer:
        base: {init_from: {stage: train, select: best}, init_tasks: {toy-entailment: toy-paraphrase}, max_steps: 3}
        tasks: [toy-entailment]
        grid: {seed: [1, 2]}
    """
Write = Callable[..., Path]


def source(run: Run) -> str:
    return Path(run.config.model.init_from or "").name.rpartition("-")[0]


def load(path: Path, stage: str) -> Sweep:
    return Sweep.load(f"{path}:{stage}", path.parent / "runs", "local")


def test_the_chosen_setting_of_an_earlier_stage(write_sweep: Write) -> None:
    """By seed; for single tasks from the run of the task in the map. What an adapter is, is the source's."""
    path = write_sweep(TEXT)
    train, waiting = load(path, "train"), load(path, "transfer")
    assert (train.plan.name, train.ledger.path.name, len(train.plan.runs)) == ("x.train", "x.train", 12)
    assert waiting.plan.waits and len(waiting.plan.runs) == 4
    assert all(is_not_known_yet(run.config.model.init_from) for run in waiting.plan.runs)
    with pytest.raises(Exception, match="x.transfer: the runs that it starts from are not done"):
        waiting.submit()
    better = {"hyperformer++": 8, "adapters": 4}
    finish(train, lambda flat, task: 60.0 if flat["reduction_factor"] == better[flat["variant"]] else 50.0)
    plan = load(path, "transfer").plan
    assert not plan.waits and {run.name: source(run) for run in plan.runs} == {
        "hyperformer++-seed1": "hyperformer++-rf8-seed1",
        "hyperformer++-seed2": "hyperformer++-rf8-seed2",
        "adapters-toy-entailment-seed1": "adapters-toy-paraphrase-rf4-seed1",
        "adapters-toy-entailment-seed2": "adapters-toy-paraphrase-rf4-seed2",
    }
    assert {run.config.variant: run.config.adapter.reduction_factor for run in plan.runs} == better
    assert all("init_from" in (run.config.contents or {}) for run in plan.runs)
    assert all(run.config.training.max_steps == 3 for run in plan.runs)


ODD_SOURCES = {
    r"line 12, stages.transfer.base.init_from: .*seeds 1, 2, and not 3": ("seed: [1, 2]}\n    ", "seed: [1, 3]}\n    "),
    r"hyperformer\+\+-rf4-seed1 .* adapter=hypernetwork_shared, and adapters has": (
        "select: best", "run: 'hyperformer++-rf4-*'",
    ),
    r"several settings of hyperformer\+\+ \(reduction_factor=4, r": (
        "{stage: train, select: best}", "{stage: train}",
    ),
    "trains no task 'toy-similarity'.* such as {toy-entailment: toy-paraphrase}": (
        "toy-entailment: toy-paraphrase", "toy-entailment: toy-similarity",
    ),
    "trains no task 'toy-entailment'": ("init_tasks: {toy-entailment: toy-paraphrase}, ", ""),
    "reduction_factor is 8, and hyperformer.* has 4; leave it out": ("max_steps: 3}", "reduction_factor: 8}"),
    "stage train has no `select:`": ("    select: {over: [reduction_factor]}", ""),
    "stage train: no run is named 'nobody'": ("select: best", "run: nobody"),
    r"is trained on another T5: 'toy' there, 't5-small' here": (
        "max_steps: 3}", "max_steps: 3, model_name_or_path: t5-small}"
    ),
    "another T5: random_init is False there, True here": ("max_steps: 3}", "max_steps: 3, random_init: true}"),
    r"'/stage:train' names no folder of a run; .* write \{stage: train\}": (
        "{stage: train, select: best}", "/stage:train",
    ),
    "'/./stage:train' names no folder": ("{stage: train, select: best}", "/./stage:train"),
    "'stage:train' names no folder": ("{stage: train, select: best}", "'stage:train'"),
}  # fmt: skip


@pytest.mark.parametrize("message", ODD_SOURCES)
def test_a_source_that_cannot_be_meant(write_sweep: Write, message: str) -> None:
    path = write_sweep(TEXT.replace(*ODD_SOURCES[message]))
    assert path.read_text() != write_sweep(TEXT, "other.yaml").read_text()
    if not message.startswith("reduction_factor"):  # said before anything is trained
        with pytest.raises(ConfigError, match=message):
            load(path, "transfer")
    finish(load(path, "train"), lambda flat, task: 60.0 if flat["reduction_factor"] == 4 else 50.0)
    with pytest.raises(ConfigError, match=message):
        load(path, "transfer")


def test_a_diverged_setting_does_not_hold_up_a_choice_and_a_missing_run_does(write_sweep: Write) -> None:
    path = write_sweep(TEXT.replace("[hyperformer++, adapters]", "[hyperformer++]"))
    train = load(path, "train")
    finish(train)
    (last,) = (run for run in train.plan.runs if run.name == "hyperformer++-rf8-seed2")
    (train.ledger.folder(last) / "result.json").unlink()
    assert load(path, "transfer").plan.waits
    outcome = {"schema": 1, "status": "failed", "kind": "diverged", "then": "end", "error_type": "Diverged"}
    attempt = train.ledger.folder(last) / "attempts/1"
    write_json(attempt / "job.json", {"schema": 1, "cluster": "local", "job_id": "1", "pid": 1, "host": "h"})
    write_json(attempt / "outcome.json", outcome)
    plan = load(path, "transfer").plan
    assert {source(run) for run in plan.runs} == {"hyperformer++-rf4-seed1", "hyperformer++-rf4-seed2"}


def test_stages_are_told_apart_and_checked(write_sweep: Write) -> None:
    path = write_sweep(TEXT)
    with pytest.raises(ConfigError, match=r"has stages: name one of them, such as .*s.yaml:train"):
        Sweep.load(path)
    with pytest.raises(ConfigError, match="no stage 'tranfser'; did you mean 'transfer'"):
        load(path, "tranfser")
    cases = {
        "stages.report: the report is written by itself": ("  train:", "  report:"),
        "base.init_from.stage: 'later' is no stage before this one; there are: train": ("stage: train", "stage: later"),
        "stages.transfer.base.init_from.select: must be `best`": ("select: best", "select: test"),
        "unknown key 'stag'; did you mean 'stage'": ("stage: train", "stag: train"),
        "stages.train.after: stands at the top of the file": ("    select:", "    after: 7\n        select:"),
        "'t r' cannot name a stage": ("  train:", "  t r:"),
        "after: must be a job id of SLURM, or a sweep file, not -3": ("name: x", "after: -3"),
        "stages.transfer.base.max_step: unknown setting": ("max_steps: 3", "max_step: 3"),
    }  # fmt: skip
    for message, (old, new) in cases.items():
        path = write_sweep(TEXT.replace(old, new))
        with pytest.raises(ConfigError, match=message):
            read_stages(path)
            load(path, "transfer")
    with pytest.raises(ConfigError, match="no stage before this one, and there is none"):
        Sweep.load(write_sweep("variants: [adapters]\ntasks: [rte]\nbase: {init_from: {stage: train}}"))


def test_what_the_upper_file_says_holds_in_every_stage(write_sweep: Write) -> None:
    write_sweep(TEXT, "lower.yaml")
    path = write_sweep(
        "extends: lower.yaml\nbase: {max_steps: 1}\ngrid: {seed: [7]}\nvariants: [hyperformer++]\n"
        "stages: {transfer: {overrides: {hyperformer++: {learning_rate: 1e-2}}}}"
    )
    for stage, count in (("train", 1), ("transfer", 1)):
        runs = load(path, stage).plan.runs
        assert {(run.config.training.max_steps, run.config.seed) for run in runs} == {(1, 7)}, stage
        assert len(runs) == (2 if stage == "train" else count)
    assert {run.config.training.learning_rate for run in load(path, "transfer").plan.runs} == {1e-2}
    assert read_stages(path).names == ("train", "transfer")


def test_weights_of_another_t5_or_of_nothing_whole_are_findings(write_sweep: Write) -> None:
    """Told by hashes and sizes, before anything is queued; no model is loaded."""
    path = write_sweep(TEXT.replace("[hyperformer++, adapters]", "[hyperformer++]"))
    train = load(path, "train")
    finish(train)
    folder = train.ledger.folder(train.plan.runs[0])
    t5 = path.parent / "t5"
    t5.mkdir()
    (t5 / "config.json").write_text('{"d_model": 32, "model_type": "t5"}')
    (t5 / "model.safetensors").write_text("other weights")
    one = f"""
        base: {{data_source: toy, model_name_or_path: toy, init_from: {folder}, warmup_steps: 0,
          reduction_factor: 4, task_hidden_dim: 32}}
        variants: [hyperformer++]
        tasks: [toy-sentiment]
        """

    def told(text: str = one) -> str:
        try:
            sweep = Sweep.load(write_sweep(text, "one.yaml"), path.parent / "runs", "local")
            return "" if len(sweep.dry_run().todo) == 1 else "nothing to start"
        except HyperformerError as error:
            return str(error)

    assert told() == ""
    other = told(one.replace("model_name_or_path: toy", f"model_name_or_path: {t5}"))
    assert (
        "trained on another T5 (the weights in" in other
        and f"and {t5} differ" in other
        and "[files]" in other
    )
    files = folder / "adapter"
    record = json.loads((files / "hyperformer_adapter.json").read_text())
    write_json(files / "hyperformer_adapter.json", {**record, "base_sizes": {"d_model": 512, "d_kv": 16}})
    assert "another T5 (d_model is 512 there, 64 here); write model_name_or_path: toy" in told()
    write_json(files / "hyperformer_adapter.json", {**record, "base_model_name_or_path": "t5-small"})
    assert "another T5 ('t5-small' there, 'toy' here)" in told()
    write_json(files / "hyperformer_adapter.json", record)
    weights = files / "hyperformer_adapter.safetensors"
    kept = weights.read_text()
    weights.write_text("cut")
    assert "is damaged, or another run's" in told()
    weights.write_text(kept)
    write_json(folder / "config.json", {})
    (folder / "result.json").rename(folder / "result.json.away")
    assert f"{folder} has no result.json, so that run is not done" in told()
    assert "not done" in told(one.replace(str(folder), str(files)))


def test_a_run_to_start_from_that_does_not_fit_is_a_finding(write_sweep: Write) -> None:
    """Before anything is queued, with the difference."""
    path = write_sweep(TEXT.replace("[hyperformer++, adapters]", "[hyperformer++]"))
    train = load(path, "train")
    finish(train)
    folder = train.ledger.folder(train.plan.runs[0])
    text = f"""
        base: {{data_source: toy, model_name_or_path: toy, init_from: {folder}, warmup_steps: 0, STEPS}}
        variants: [hyperformer++]
        tasks: [toy-sentiment]
        """
    for more, message in {
        "reduction_factor: 16": "another method: reduction_factor is 4 there, 16 here",
        "random_init: true, reduction_factor: 4, task_hidden_dim: 32": "its T5 was pre-trained",
        "reduction_factor: 4": "task_hidden_dim is 32 there, 128 here",
    }.items():
        with pytest.raises(HyperformerError, match=message):
            Sweep.load(
                write_sweep(text.replace("STEPS", more), "one.yaml"), path.parent / "runs", "local"
            ).dry_run()
    fits = write_sweep(text.replace("STEPS", "reduction_factor: 4, task_hidden_dim: 32"), "one.yaml")
    assert len(Sweep.load(fits, path.parent / "runs", "local").dry_run().todo) == 1
    (folder / "adapter" / "hyperformer_adapter.json").write_text('{"tasks": 3}')
    with pytest.raises(HyperformerError, match="hyperformer_adapter.json is damaged"):
        Sweep.load(fits, path.parent / "runs", "local").dry_run()
    file = folder / "result.json"
    no_folder = text.replace(str(folder), str(file)).replace("STEPS", "reduction_factor: 4")
    with pytest.raises(HyperformerError, match="result.json: is not the folder of a run"):
        Sweep.load(write_sweep(no_folder, "one.yaml"), path.parent / "runs", "local").dry_run()
