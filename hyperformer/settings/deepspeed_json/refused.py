"""Sections of DeepSpeed's JSON that a run cannot honour: why, and what to write. Data only.

A section that is switched off (false, null, empty, or with ``"enabled": false``) does no harm and is accepted.
"""

from __future__ import annotations

_REMOVED = "DeepSpeed 0.19 no longer has it. Remove it"
_PARALLEL = (
    "a run shares its work by data parallelism and ZeRO alone. Remove it; zero_stage=3 shares a large model"
)
_OWN_DATA = "rows come from the run's own sampler. Remove it"
_DIAGNOSTIC = (
    "what DeepSpeed would print or write is not shown: a run has its own log, metrics.jsonl and TensorBoard files. "
    'Remove it, or write "enabled": false'
)
_OFFLOAD = 'DeepSpeed has renamed it. Write "{new}": {{"device": "cpu"}}'

REFUSED: dict[str, str] = {
    "activation_checkpointing": "only code that calls DeepSpeed's own checkpointing uses it, and T5 does not. "
    "Remove it, and write the setting gradient_checkpointing=true",
    "torch_autocast": "the number format is the setting precision. Remove it, and write precision=bf16",
    "bfloat16": 'the key is "bf16" now. Rename it',
    **{
        name: _REMOVED
        for name in (
            "compression_training", "quantize_training", "eigenvalue", "sparse_attention", "sparse_gradients",
            "progressive_layer_drop", "curriculum_learning", "nebula", "graph_harvesting",
            "zero_optimization.mics_shard_size", "zero_optimization.mics_hierarchical_params_gather",
            "zero_optimization.zeropp_loco_param",
        )
    },
    "elasticity": "DeepSpeed 0.19 no longer has it. Remove it: a run resumes on another number of GPUs without it, "
    "with the same global batch",
    **{
        name: _PARALLEL
        for name in (
            "pipeline", "tensor_parallel", "expert_parallel", "sequence_parallel_size",
            "seq_parallel_communication_data_type", "use_data_before_expert_parallelism",
        )
    },
    "checkpoint": "checkpoints are written in our own format, which loads on any number of ranks. Remove it",
    **{name: _OWN_DATA for name in ("data_efficiency", "dataloader_drop_last")},
    **{
        name: _DIAGNOSTIC
        for name in (
            "tensorboard", "wandb", "csv_monitor", "comet", "comms_logger", "flops_profiler", "timers", "log_level",
            "wall_clock_breakdown", "memory_breakdown", "dump_state",
        )
    },
    "autotuning": "it starts runs of its own. Remove it; a sweep tries settings (README.md)",
    "aio": "only NVMe offload uses it, which checkpoints cannot hold. Remove it",
    "compile": "a compiled engine is not tested with the adapters. Remove it",
    "hybrid_engine": "it is of reinforcement learning. Remove it",
    "weight_quantization": "it is of inference. Remove it",
    "data_types.param_dtype": "the number format is the setting precision. Remove it",
    "data_types.buffer_dtype": "the number format is the setting precision. Remove it",
    "data_types.keep_in_fp32_modules": "the number format is the setting precision. Remove it",
    "optimizer.params.max_grad_norm": 'it belongs beside the section. Remove it, and write "gradient_clipping": "auto"',
    "zero_optimization.cpu_offload": _OFFLOAD.format(new="offload_optimizer"),
    "zero_optimization.cpu_offload_params": _OFFLOAD.format(new="offload_param"),
    "zero_optimization.cpu_offload_param": _OFFLOAD.format(new="offload_param"),
    "zero_optimization.cpu_offload_use_pin_memory": 'DeepSpeed has renamed it. Write "pin_memory" in the section of '
    "the offload",
    "zero_optimization.zenflow": "it updates some weights late, which a checkpoint cannot hold. Remove it",
    "zero_optimization.leaf_module": "it is of mixtures of experts. Remove it",
    "zero_optimization.save_muon_momentum_buffer_in_memory": "the optimizer is AdamW. Remove it",
}  # fmt: skip


def is_off(value: object) -> bool:
    """Whether a section asks for nothing."""
    parts = [value]
    while parts:  # a file can nest deeper than functions can call themselves
        part = parts.pop()
        if isinstance(part, dict):
            parts += part.values() if part.get("enabled") is not False else []
        elif part is not None and part is not False:
            return False
    return True
