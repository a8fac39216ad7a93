"""Settings, config files, overrides, and the authors' files."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperformer.adapters.parameters import count_config
from hyperformer.errors import ConfigError
from hyperformer.settings import checks, extras, methods, precision
from hyperformer.settings.build import SimilarConfigs, flatten, make_config, replace
from hyperformer.settings.checks import check
from hyperformer.settings.config_files import CONFIGS, SHIPPED, ConfigWarning, load_config, read_config_file
from hyperformer.settings.schema import VARIANTS, RunConfig
from hyperformer.settings.signature import signature
from hyperformer.settings.values import coerce, settings
from hyperformer.settings.yaml_source import read_yaml

GLUE = ("rte", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "cola")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.json"
    path.write_text(text)
    return path


def test_there_is_a_config_and_a_script_a_variant() -> None:
    configs = {path.stem: load_config(path.stem) for path in SHIPPED.glob("*.json")}
    assert set(VARIANTS) <= configs.keys()
    assert all(config.variant == name and config.data.tasks == GLUE for name, config in configs.items())
    scripts = SHIPPED.parent / "scripts"
    # The one beside them is what they all start.
    assert {path.stem for path in scripts.glob("*.sh")} == {*configs, "launch"}


@pytest.mark.parametrize(
    ("kind", "per_task"),
    # Of T5-base. From memory of the papers: LoRA has rank 8 in 72 matrices; (IA)3 trains 0.06% of T5.
    [
        ("lora", 884_736),
        ("dora", 940_032),
        ("ia3", 129_024),
        ("vera", 73_728),
        ("prefix_tuning", 368_640),
        ("prompt_tuning", 76_800),
        ("p_tuning", 1_787_136),
    ],
)
def test_shipped_configs_of_peft_train_as_much_as_in_their_papers(kind: str, per_task: int) -> None:
    pytest.importorskip("peft", reason="it is an extra")
    config = load_config(kind)
    assert (config.variant, config.adapter.adapter, config.data.tasks) == (kind, kind, GLUE)
    assert not config.task_prefix and not config.model.unfreeze_layer_norms
    assert count_config(load_config(kind, ["tasks=rte"])).trained == per_task


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_configs_are_the_papers_and_build(variant: str) -> None:
    config = load_config(variant)
    assert config.variant == variant and config.data.tasks == GLUE
    training, adapter = config.training, config.adapter
    assert (training.max_steps, training.learning_rate, training.warmup_steps) == (65_536, 3e-4, 500)
    assert (training.label_smoothing, training.loss_reduction, config.data.temperature) == (0.1, "sum", 10)
    assert config.model.unfreeze_layer_norms == (adapter.adapter != "none")
    assert config.task_prefix == (adapter.adapter == "none")
    count = count_config(config)
    assert 0 < count.trained <= count.total


def test_every_setting_is_documented_and_flattens() -> None:
    for name, entry in settings().items():
        assert entry.help and entry.name == name
    config = load_config("hyperformer++", ["tasks=rte,cola", "seed=3"])
    assert make_config(flatten(config)) == config


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("tasks=rte,cola", "tasks", ["rte", "cola"]),
        ("tasks=[rte, cola]", "tasks", ["rte", "cola"]),
        ("tasks=rte", "tasks", ["rte"]),
        ("learning_rate=3e-5", "learning_rate", 3e-5),
        ("--seed=2", "seed", 2),
        ("do_test=false", "do_test", False),
        ("n_train=null", "n_train", None),
        ("output_dir=123", "output_dir", "123"),
    ],
)
def test_overrides(override: str, key: str, value: object) -> None:
    assert flatten(load_config("finetune", [override]))[key] == value


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("taks=rte", "did you mean 'tasks'"),
        ("rte", "key=value"),
        ("seed=two", "arguments seed=two: seed is 'two', but must be a whole number"),
        ("seed=4294967296", "below 2"),
        ("output_dir=", "output_dir is None, but must be text"),
        ("output_dir=''", "must name a folder"),
        ("output_dir=a\udcff", "not YAML: unacceptable character"),
        ("tasks=a\udcff", "not YAML: unacceptable character"),
        ("init_from=''", "must name the folder of a run"),
        ("seed=1.5", "a whole number"),
        ("seed=true", "a whole number"),
        ("learning_rate=fast", "a number"),
        ("learning_rate=nan", "a number"),
        ("learning_rate=inf", "a number"),
        ("do_test=1", "true or false"),
        ("adapter=houlsby", "one of none, task"),
        ("zero_stage=4", "one of 0, 1, 2, 3"),
        ("max_steps=0", "greater than 0"),
        ("hang_minutes=1e9", "hang_minutes is 1000000000.0, but must be 0 .never. to 10,000,000"),
        ("step_timeout_minutes=1e300", "must be greater than 0, and at most 10,000,000"),
        ("max_steps=1e300", "must be greater than 0, and at most 1,000,000,000"),
        ("per_device_train_batch_size=1e30", "must be greater than 0, and at most 1,000,000"),
        ("weight_decay=1e300", "must not be negative, and at most 1,000,000,000"),
        ("mixing_cap={rte: 1e12}", "must be greater than 0, and at most 1,000,000,000"),
        ("early_stop_min_delta=101", "0 to 100 points"),
        ("label_smoothing=1", "below 1"),
        ("tasks=rte,rte", "names a task twice"),
        ("data_dir=/rows", "data_source=folder"),
        ("data_source=folder", "data_dir"),
        ("adapters=a", "one name for each"),
        ("tasks=[", "not YAML"),
        ("max_steps=012", "is '012', but must be a whole number"),
        ("max_steps=1:30", "is '1:30', but must be a whole number"),
        ("output_dir=a #b", "what follows # is a comment"),
    ],
)
def test_bad_overrides_say_what_to_write(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config("finetune", [override])


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 10**12, 1e300, "5", True])
def test_every_number_has_bounds(value: object) -> None:
    for key, setting in settings().items():
        if {int, float} & set(setting.kinds):
            with pytest.raises(ConfigError, match=key):
                coerce(key, value, "here")


def test_a_shared_hypernetwork_refuses_dimensions_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="projected_task_embedding_dim"):
        load_config("hyperformer++", ["train_task_embeddings=true", "task_embedding_dim=512"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_config_file(write(tmp_path, '{"seed": 1,\n "tasks" [}'))
    with pytest.raises(ConfigError, match="one JSON object"):
        read_config_file(write(tmp_path, "[1]"))
    latin = write(tmp_path, "")
    latin.write_bytes(b'{"tasks":\n ["caf\xe9"]}')  # YAML, too
    for read in (read_config_file, read_yaml):
        with pytest.raises(ConfigError, match=r"config\.json, line 2: not UTF-8 text .* iconv"):
            read(latin)
    with pytest.raises(ConfigError, match=r"did you mean 'hyperformer\+\+'"):
        CONFIGS.find("hyperformer+")
    with pytest.raises(ConfigError, match="unknown setting 'sed'; did you mean 'seed'"):
        load_config(write(tmp_path, '{"sed": 1}'))


def test_a_key_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path, '{"task_embedding_dim": 512, "task_embedding_dim": 64}')
    with pytest.warns(ConfigWarning, match=r"given twice \(512, then 64\).*: 64"):
        assert read_config_file(path) == {"task_embedding_dim": 64}


def test_signature_tells_results_apart_and_nothing_else() -> None:
    config = load_config("adapters_dagger")
    assert signature(replace(config, seed=7)) != signature(config)
    for harmless in ({"output_dir": "x"}, {"logging_steps": 3}, {"save_steps": 5}, {"cache_dir": "c"}):
        assert signature(replace(config, **harmless)) == signature(config)
    # Runs on people's disks bear it: it must not change from version to version.
    assert signature(RunConfig()) == "44136fa355"


THEIRS = {
    "model_name_or_path": "t5-base", "tokenizer_name": "t5-base", "learning_rate": 3e-4, "output_dir": "outputs/x",
    "max_source_length": 128, "max_target_length": 128, "val_max_target_length": 128, "test_max_target_length": 128,
    "num_train_epochs": 100, "warmup_steps": 500, "eval_steps": 1000, "overwrite_output_dir": True,
    "label_smoothing": 0.1, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32, "save_steps": 1000,
    "logging_first_step": True, "logging_steps": 200, "save_total_limit": 1, "temperature": 10, "do_train": True,
    "do_test": True, "do_eval": True, "predict_with_generate": True, "split_validation_test": True,
    "non_linearity": "gelu_new", "load_best_model_at_end": True, "evaluation_strategy": "steps",
    "metric_for_best_model": "average_metrics", "greater_is_better": True, "max_steps": 65536, "tasks": list(GLUE),
    "eval_tasks": list(GLUE), "train_adapters": True, "reduction_factor": 32, "projected_task_embedding_dim": 64,
    "task_embedding_dim": 64, "conditional_layer_norm": True, "unfreeze_lm_head": False, "unfreeze_layer_norms": True,
    "efficient_unique_hyper_net": True, "adapter_config_name": "meta-adapter",
}  # fmt: skip


def load_theirs(tmp_path: Path, **changes: object) -> RunConfig:
    values = {key: value for key, value in {**THEIRS, **changes}.items() if value != "absent"}
    return load_config(write(tmp_path, json.dumps(values)))


@pytest.mark.filterwarnings("ignore::hyperformer.settings.config_files.ConfigWarning")
def test_the_authors_hyperformer_plus_plus_is_ours(tmp_path: Path) -> None:
    theirs = load_theirs(tmp_path)
    ours = load_config("hyperformer++")
    told = {"tokenizer_name", "output_dir", "save_total_limit", "per_device_eval_batch_size"}
    different = {key for key, value in flatten(theirs).items() if value != flatten(ours)[key]}
    assert different <= told
    assert count_config(theirs).trained == count_config(ours).trained


@pytest.mark.filterwarnings("ignore::hyperformer.settings.config_files.ConfigWarning")
@pytest.mark.parametrize(
    ("changes", "kind", "variant"),
    [
        (
            {"efficient_unique_hyper_net": False, "unique_hyper_net": True},
            "hypernetwork_per_block_type",
            "hyperformer",
        ),
        ({"efficient_unique_hyper_net": "absent"}, "hypernetwork_per_layer", "hyperformer"),
        (
            {"adapter_config_name": "adapter", "efficient_unique_hyper_net": "absent"},
            "task",
            "adapters_dagger",
        ),
        ({"adapter_config_name": "adapter", "tasks": ["mrpc"], "eval_tasks": ["mrpc"]}, "task", "adapters"),
        ({"train_adapters": "absent", "unfreeze_layer_norms": False}, "none", "finetune"),
    ],
)
def test_their_switches(tmp_path: Path, changes: dict, kind: str, variant: str) -> None:
    config = load_theirs(tmp_path, **changes)
    assert (config.adapter.adapter, config.variant) == (kind, variant)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"eval_tasks": ["rte"]}, "eval_tasks is not honoured"),
        ({"adafactor": True}, "adafactor=True is not honoured"),
        ({"do_train": False}, "do_train=False is not honoured"),
        ({"overwrite_output_dir": True}, "never overwrites"),
        ({"val_max_target_length": 64}, "val_max_target_length is not honoured"),
    ],
)
def test_what_cannot_be_honoured_is_named(tmp_path: Path, changes: dict, warning: str) -> None:
    with pytest.warns(ConfigWarning, match=warning):
        load_theirs(tmp_path, **changes)


def test_unknown_keys_and_missing_steps_in_their_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'efficient_unique_hyper_net'"):
        load_theirs(tmp_path, efficient_unique_hypernet=True)
    with pytest.raises(ConfigError, match="max_steps"):
        load_theirs(tmp_path, max_steps="absent")
    with pytest.raises(ConfigError, match="num_train_epochs alone"):
        load_theirs(tmp_path, max_steps=-1)


def test_a_config_made_after_another_is_the_one_made_alone() -> None:
    choices = {
        "tasks": [["rte"], ["rte", "mrpc"]], "seed": [1, 1.0, True, -1], "dropout": [0.1, None],
        "max_steps": [10, 10.0, 0], "learning_rate": [1, 1.0, 1e-3], "zero_stage": [0, 2.0, False],
        "precision": ["fp32", "bf16"], "adapter": ["task", "none"], "reduction_factor": [8, 16],
        "mixing": ["temperature", "weights"], "task_weights": [None, {"rte": 1, "mrpc": 2}],
        "output_dir": ["x", " "], "unknown": [1],
    }  # fmt: skip
    pool = [(key, value) for key, values in choices.items() for value in values]
    rng, similar = random.Random(0), SimilarConfigs()
    values: dict[str, Any] = {}
    told: list[str] = []
    for _ in range(400):
        key, value = rng.choice(pool)
        values = {**values, key: value} if rng.random() < 0.8 else {k: values[k] for k in values if k != key}
        alone, after = (described(make, values) for make in (make_config, similar.make))
        assert after == alone
        told.append(alone)
        if alone.startswith("ConfigError"):
            values.pop(key, None)
    assert 50 < sum(text.startswith("ConfigError") for text in told) < 350


class Seedless(RunConfig):
    """A config whose seed cannot be read."""

    @property  # type: ignore[override]
    def seed(self) -> int:
        raise AssertionError("a check reads the seed, so SimilarConfigs must check again where it differs")


@pytest.mark.parametrize("name", [path.stem for path in SHIPPED.glob("*.json")])
def test_no_check_reads_the_seed(name: str) -> None:
    """Why configs that differ in it alone need one check."""
    config = load_config(name)
    flat = flatten(config)
    del flat["seed"]
    seedless = object.__new__(Seedless)
    vars(seedless).update(vars(config))
    check(seedless, flat, "settings")
    # No condition that these configs do not come to reads it either.
    assert not any("seed" in inspect.getsource(module) for module in (checks, extras, methods, precision))


def described(make: Callable[[dict[str, Any], str], RunConfig], values: dict[str, Any]) -> str:
    """The config with what is kept with it, or the error."""
    try:
        config = make(values, "settings")
    except ConfigError as error:
        return repr(error)
    return repr((config, flatten(config), signature(config)))
