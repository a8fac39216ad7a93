"""Every key of DeepSpeed's JSON that has a meaning here, by its path. Data only.

The keys are those of DeepSpeed 0.19 (``runtime/config.py``, ``runtime/zero/config.py``,
``runtime/precision_config.py``). A path that is neither here nor in :mod:`.refused` is unknown.
"""

from __future__ import annotations

from hyperformer.settings.deepspeed_json.rules import (
    ANY,
    BOOL,
    COUNT,
    NUMBER,
    ONE,
    POSITIVE,
    SHARE,
    Checked,
    FromSetting,
    Passed,
    Rule,
    Values,
    one_of,
)  # fmt: skip
from hyperformer.settings.precision import sums_in_float32, zero_stage

_OFF, _ON = one_of(False), one_of(True)
_ONE_WAY = "only DeepSpeed's default is tested here"
_NVME = 'a checkpoint cannot hold a state that lies on a disk. Write "cpu" (there must be memory on the host for it)'
_ADAMW = "the optimizer is torch's fused AdamW"


def _same(name: str) -> FromSetting:
    return FromSetting((name,), lambda training: getattr(training, name))


def _number_format(name: str) -> FromSetting:
    return FromSetting(
        ("precision",),
        lambda training: training.precision == name,
        lambda enabled: f"precision={name if enabled else 'fp32'}",
    )


_BATCH: dict[str, Rule] = {
    "train_batch_size": Checked(POSITIVE, auto=True),  # compared where the number of ranks is known
    "train_micro_batch_size_per_gpu": _same("per_device_train_batch_size"),
    "gradient_accumulation_steps": _same("gradient_accumulation_steps"),
    "gradient_clipping": _same("max_grad_norm"),
}

_OPTIMIZER: dict[str, Rule] = {
    "optimizer.type": Checked(
        Values(lambda value: str(value).lower() in ("adam", "adamw"), '"AdamW" or "Adam"'),
        f"{_ADAMW}. Remove the section `optimizer`; the settings learning_rate, weight_decay and adam_* remain",
    ),
    "optimizer.params.lr": _same("learning_rate"),
    "optimizer.params.betas": FromSetting(
        ("adam_beta1", "adam_beta2"),
        lambda training: [training.adam_beta1, training.adam_beta2],
        lambda betas: " ".join(f"adam_beta{n}={beta}" for n, beta in enumerate(betas, 1)),
    ),
    "optimizer.params.eps": _same("adam_epsilon"),
    "optimizer.params.weight_decay": _same("weight_decay"),
    "optimizer.params.torch_adam": Checked(BOOL),
    "optimizer.params.adam_w_mode": Checked(
        _ON, "it would be Adam with L2 regularisation, and the optimizer is AdamW"
    ),
    "optimizer.params.bias_correction": Checked(_ON, _ADAMW),
    "optimizer.params.amsgrad": Checked(_OFF, _ADAMW),
    "optimizer.params.fp32_optimizer_states": Checked(
        _ON, "checkpoints hold the optimizer's state in float32"
    ),
    "optimizer.legacy_fusion": Checked(_OFF, _ADAMW),
    "zero_allow_untested_optimizer": Checked(BOOL),
    "zero_force_ds_cpu_optimizer": Checked(
        _OFF, f"{_ADAMW}, also with ZeRO-Offload: it needs no compiler, and is as quick on the CPU"
    ),
}

# DeepSpeed's schedules: the setting `lr_scheduler` of the same kind, and the names of their parameters.
SCHEDULERS = {
    "WarmupLR": ("constant_w_warmup", ("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type")),
    "WarmupDecayLR": (
        "linear",
        ("total_num_steps", "warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type"),
    ),
    "WarmupCosineLR": (
        "cosine",
        ("total_num_steps", "warmup_min_ratio", "warmup_num_steps", "warmup_type", "cos_min_ratio"),
    ),
}
_SCHEDULER: dict[str, Rule] = {
    "scheduler.type": Passed(one_of(*SCHEDULERS), result=True),
    "scheduler.params.warmup_max_lr": _same("learning_rate"),
    "scheduler.params.warmup_num_steps": FromSetting(
        ("warmup_steps",),
        lambda training: None if training.warmup_ratio is not None else training.warmup_steps,
    ),
    "scheduler.params.total_num_steps": FromSetting(
        ("max_steps",), lambda training: None if training.num_train_epochs is not None else training.max_steps
    ),
    "scheduler.params.warmup_min_lr": Passed(NUMBER, default=0, result=True, auto=True),
    "scheduler.params.warmup_type": Passed(one_of("log", "linear"), default="log", result=True),
    "scheduler.params.warmup_min_ratio": Passed(SHARE, default=0, result=True),
    "scheduler.params.cos_min_ratio": Passed(SHARE, default=0.0001, result=True),
}

_FORMATS: dict[str, Rule] = {
    "bf16.enabled": _number_format("bf16"),
    "bf16.check_grad_overflow": Passed(BOOL, default=True, result=True),
    "bf16.immediate_grad_update": Checked(_OFF, _ONE_WAY),
    "bf16.bf16_master_weights_and_grads": Checked(_OFF, "checkpoints hold float32 weights"),
    "bf16.bf16_optimizer_states": Checked(_OFF, "checkpoints hold the optimizer's state in float32"),
    "fp16.enabled": _number_format("fp16"),
    "fp16.loss_scale": Passed(NUMBER, default=0, result=True),
    "fp16.initial_scale_power": Passed(COUNT, default=16, result=True),
    "fp16.loss_scale_window": Passed(POSITIVE, default=1000, result=True),
    "fp16.hysteresis": Passed(POSITIVE, default=2, result=True),
    "fp16.consecutive_hysteresis": Passed(BOOL, default=False, result=True),
    "fp16.min_loss_scale": Passed(POSITIVE, default=1, result=True),
    "fp16.auto_cast": Checked(_OFF, "a T5 reads token numbers, which have no number format"),
    "fp16.fp16_master_weights_and_grads": Checked(_OFF, "checkpoints hold float32 weights"),
    "amp.enabled": Checked(
        _OFF, "DeepSpeed 0.19 has no Apex AMP. Write the setting precision=bf16", auto=True
    ),
    "amp.opt_level": Checked(ANY, auto=True),
    "communication_data_type": Passed(one_of("fp32", "fp16", "bf16", None), result=True),
    "data_types.grad_accum_dtype": Passed(
        one_of("fp32", "fp16", "bf16", None),
        default=lambda t: "fp32" if sums_in_float32(t.precision, zero_stage(t)) else t.precision,
        result=True,
    ),
}

_ZERO: dict[str, Rule] = {
    "stage": FromSetting(("zero_stage",), zero_stage),
    **{
        name: Passed(POSITIVE, auto=True)
        for name in ("reduce_bucket_size", "allgather_bucket_size", "stage3_prefetch_bucket_size")
    },
    "stage3_param_persistence_threshold": Passed(COUNT, auto=True),
    **{
        name: Passed(COUNT)
        for name in (
            "stage3_model_persistence_threshold", "stage3_max_live_parameters", "stage3_max_reuse_distance",
            "sub_group_size",
        )
    },
    **{
        name: Passed(BOOL)
        for name in (
            "contiguous_gradients", "reduce_scatter", "use_multi_rank_bucket_allreduce", "allgather_partitions",
            "round_robin_gradients", "memory_efficient_linear",
        )
    },
    "overlap_comm": Passed(one_of(True, False, None)),
    # Of DeepSpeed's own checkpoints, which a run does not write.
    "stage3_gather_16bit_weights_on_model_save": Checked(BOOL, auto=True),
    "stage3_gather_fp16_weights_on_model_save": Checked(BOOL, auto=True),
    "load_from_fp32_weights": Checked(BOOL),
    "elastic_checkpoint": Checked(_OFF, "checkpoints load on any number of ranks without it"),
    "ignore_unused_parameters": Checked(_ON, "a step trains one task, and so not every parameter"),
    "compute_grad_norm": Checked(_ON, "the run looks at the norm of the gradients"),
    **{
        name: Checked(_OFF, _ONE_WAY)
        for name in (
            "legacy_stage1", "parameter_alignment", "pipeline_loading_checkpoint", "enable_sanity_checks",
            "log_trace_cache_warnings", "stage3_use_all_reduce_for_fetch_params", "stage3_allgather_sequential",
        )
    },
    "override_module_apply": Checked(_ON, _ONE_WAY),
    "stage3_module_granularity_threshold": Checked(one_of(0), _ONE_WAY),
    "zero_hpz_partition_size": Checked(one_of(1), "parameters are shared among all ranks"),
    **{
        name: Checked(_OFF, "weights and gradients would be rounded to 8 bits")
        for name in ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients")
    },
    "offload_optimizer.ratio": Checked(
        ONE, "the optimizer's state is offloaded as a whole"
    ),
    "offload_optimizer.super_offload": Checked(_OFF, _ONE_WAY),
    "offload_optimizer.cpuadam_cores_perc": Checked(SHARE),
}  # fmt: skip
for _name in ("offload_optimizer", "offload_param"):
    _ZERO[f"{_name}.device"] = Passed(
        Values(one_of("none", "cpu").hold, f'"none" or "cpu": {_NVME}'),
        default="none",
        result=True,
        auto=True,
    )
    _ZERO[f"{_name}.pin_memory"] = Passed(BOOL)
    # Of NVMe alone.
    _ZERO[f"{_name}.nvme_path"] = Checked(ANY, auto=True)
    _ZERO[f"{_name}.buffer_count"] = Checked(COUNT)
for _name in ("pipeline_read", "pipeline_write", "fast_init"):
    _ZERO[f"offload_optimizer.{_name}"] = Checked(BOOL)
for _name in ("buffer_size", "max_in_cpu"):
    _ZERO[f"offload_param.{_name}"] = Checked(COUNT)

_OTHERS: dict[str, Rule] = {
    "steps_per_print": Checked(ANY),  # its lines are not shown
    "vocabulary_size": Checked(ANY),  # DeepSpeed only warns of odd ones
    "prescale_gradients": Checked(_OFF, _ONE_WAY),
    "gradient_predivide_factor": Checked(ONE, _ONE_WAY),
    "gradient_allreduce_op": Checked(one_of("mean"), "losses are averaged over the ranks"),
    "disable_allgather": Checked(_OFF, _ONE_WAY),
    "managed_gradient_accumulation": Checked(_ON, _ONE_WAY),
    "disable_python_gc": Checked(_OFF, _ONE_WAY),
}

KEYS: dict[str, Rule] = {
    **_BATCH,
    **_OPTIMIZER,
    **_SCHEDULER,
    **_FORMATS,
    **{f"zero_optimization.{name}": rule for name, rule in _ZERO.items()},
    **_OTHERS,
}
