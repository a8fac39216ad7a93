"""Config files of the authors' repository: their flat keys, with the meaning they have there.

Facts about their settings, from their README, their argument classes and the
behaviour of their code; ``is_theirs`` recognises such a file by keys that we
do not have.
"""

from __future__ import annotations

from typing import Any

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.values import settings

# Their key -> ours, where only the name differs.
_RENAMED = {"not_load_t5_checkpoint": "random_init"}

# Keys that fix what we always do: the value that agrees, and what we do.
_ALWAYS: dict[str, tuple[Any, str]] = {
    "do_train": (True, "training is what a run is"),
    "predict_with_generate": (True, "metrics are computed on generated answers"),
    "split_validation_test": (True, "test sets are made as the paper makes them"),
    "load_best_model_at_end": (True, "the best checkpoint is tested"),
    "evaluation_strategy": ("steps", "evaluation comes every eval_steps"),
    "metric_for_best_model": ("average_metrics", "the best checkpoint is that of the best average metric"),
    "greater_is_better": (True, "the best checkpoint is that of the best average metric"),
    "ignore_pad_token_for_loss": (True, "padding never counts in the loss"),
    "data_seed": (42, "splits are drawn with seed 42, as theirs"),
    "adafactor": (False, "the optimizer is AdamW"),
    "local_rank": (-1, "ranks come from the launcher"),
    "eval_beams": (None, "a task's row in the task table says how many beams it is decoded with"),
    "encoder_layerdrop": (None, "T5 has no layer drop"),
    "decoder_layerdrop": (None, "T5 has no layer drop"),
    "attention_dropout": (None, "T5 has one dropout rate: dropout"),
    "generate_classifier_weights": (False, "it has no effect in their code either"),
    "optimize_from_scratch": (False, "a run resumes from its own checkpoint, or starts from the beginning"),
    "optimize_from_scratch_with_loading_model": (
        False, "a run resumes from its own checkpoint; to start from another run's weights, write init_from=FOLDER",
    ),
    "config_name": (None, "the config is the model's own"),
    "eval_output_dir": (None, "all files of a run are in output_dir"),
    "warmup_ratio": (0.0, "give warmup_steps"),
}  # fmt: skip

# Keys that cannot change a result: taken, and nothing to say.
_NO_EFFECT = {
    "hidden_dim", "logging_first_step", "logging_dir", "print_num_parameters", "compute_memory", "compute_time",
    "disable_tqdm", "run_name", "dataloader_num_workers", "dataloader_drop_last", "remove_unused_columns",
    "prediction_loss_only", "per_gpu_train_batch_size", "per_gpu_eval_batch_size", "debug", "no_cuda",
    "tpu_num_cores", "tpu_metrics_debug", "past_index", "label_names", "fp16_opt_level", "eval_accumulation_steps",
    "model_parallel", "cache_dir",
}  # fmt: skip

_STRUCTURE = {
    "train_adapters", "adapter_config_name", "unique_hyper_net", "efficient_unique_hyper_net",
    "train_adapters_blocks",
}  # fmt: skip

_SCHEDULES = {"linear", "cosine", "polynomial", "constant", "constant_w_warmup"}


def _special(key: str, value: Any, theirs: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Settings and notes for a key that needs more than a new name."""
    if key in ("n_train", "n_val", "n_test"):
        return {key: None if value == -1 else value}, []
    if key == "eval_tasks":
        same = list(value) == list(theirs.get("tasks", []))
        return {}, [] if same else [
            f"eval_tasks is not honoured: a run evaluates its tasks, {theirs.get('tasks')}"
        ]
    if key in ("val_max_target_length", "test_max_target_length"):
        same = value == theirs.get("max_target_length", 128)
        return {}, [] if same else [f"{key} is not honoured: max_target_length holds for every split"]
    if key == "overwrite_output_dir":
        return {}, ["overwrite_output_dir is not honoured: a run never overwrites another"] if value else []
    if key == "num_train_epochs":
        if theirs.get("max_steps", -1) <= 0:
            raise ConfigError(
                f"{where}: num_train_epochs alone does not say how long to train; write max_steps"
            )
        return {}, []
    if key == "fp16":
        return {"precision": "fp16" if value else "fp32"}, []
    if key == "lr_scheduler":
        if value not in _SCHEDULES:
            raise ConfigError(
                f"{where}: lr_scheduler {value!r} is not supported; write one of {sorted(_SCHEDULES)}"
            )
        return {key: value}, []
    # Absent here means theirs; a null in the file means the default.
    return ({} if value is None else {key: value}), []


_SPECIAL = {
    "n_train", "n_val", "n_test", "eval_tasks", "val_max_target_length", "test_max_target_length",
    "overwrite_output_dir", "num_train_epochs", "fp16", "lr_scheduler",
}  # fmt: skip

# Where their default differs from ours, an absent key means theirs.
_THEIR_DEFAULTS = {
    "reduction_factor": 16,
    "non_linearity": "swish",
    "task_embedding_dim": 512,
    "temperature": 1,
    "label_smoothing": 0.0,
    "learning_rate": 5e-5,
    "warmup_steps": 0,
    "per_device_train_batch_size": 8,
    "eval_steps": 500,
    "save_steps": 500,
    "do_eval": False,
    "do_test": False,
}


def is_theirs(values: dict[str, Any]) -> bool:
    """Whether a config file is written with the authors' keys."""
    ours = set(settings())
    return any(key in known and key not in ours for key in values for known in _tables())


def _tables() -> tuple[Any, ...]:
    return (_RENAMED, _ALWAYS, _NO_EFFECT, _STRUCTURE, _SPECIAL)


def translate(theirs: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Their settings as ours.

    Returns:
        The flat settings, and a note for each setting that is not honoured to the letter.

    Raises:
        ConfigError: a key that neither they nor we know.
    """
    ours: dict[str, Any] = dict(_THEIR_DEFAULTS)
    notes: list[str] = []
    known = settings()
    for key, value in theirs.items():
        if key in _SPECIAL:
            values, more = _special(key, value, theirs, where)
            ours.update(values)
            notes += more
        elif key in _ALWAYS:
            agrees, reason = _ALWAYS[key]
            if value != agrees:
                notes.append(f"{key}={value!r} is not honoured: {reason}")
        elif key in _RENAMED:
            ours[_RENAMED[key]] = value
        elif key in known:
            if value is not None:
                ours[key] = value
        elif key not in _NO_EFFECT and key not in _STRUCTURE:
            names = [*known, *(name for table in _tables() for name in table)]
            raise ConfigError(f"{where}: unknown setting {key!r}{nearest(key, names)}")
    if "max_steps" not in theirs:
        raise ConfigError(f"{where}: max_steps is missing, and it says how long to train")
    ours.update(_structure(theirs, where))
    ours["loss_reduction"] = "sum"
    ours.setdefault("variant", _variant_name(ours))
    if not ours.get("reference_splits"):
        notes.append(
            "the 1,000 validation rows of sst2, qqp and qnli are kept out of training here; "
            "theirs trains on them too (reference_splits=true does the same)"
        )
    return ours, notes


def _structure(theirs: dict[str, Any], where: str) -> dict[str, Any]:
    """Their switches for the kind of adapter -> our one setting."""
    if not theirs.get("train_adapters", False):
        return {"adapter": "none"}
    if not theirs.get("train_adapters_blocks", True):
        # No adapters, T5 frozen, and yet no task prefix: their way to train the layer norms alone.
        return {"adapter": "none", "freeze_model": True, "task_prefix": False}
    name = theirs.get("adapter_config_name", "meta-adapter")
    if name == "adapter":
        return {"adapter": "task", "conditional_layer_norm": False}
    if name != "meta-adapter":
        raise ConfigError(f"{where}: adapter_config_name {name!r}; write 'adapter' or 'meta-adapter'")
    if theirs.get("efficient_unique_hyper_net", False):
        return {"adapter": "hypernetwork_shared"}
    if theirs.get("unique_hyper_net", False):
        return {"adapter": "hypernetwork_per_block_type"}
    return {"adapter": "hypernetwork_per_layer"}


def _variant_name(ours: dict[str, Any]) -> str:
    """The variant that the settings amount to."""
    several = len(ours.get("tasks", ())) > 1
    names = {
        "none": "finetune" if several else "finetune_single_task",
        "task": "adapters_dagger" if several else "adapters",
        "hypernetwork_shared": "hyperformer++",
    }
    return names.get(ours["adapter"], "hyperformer")
