"""How this process computes: its device, float32 products in TF32 or not, any kernel or deterministic ones only."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from hyperformer.adapters.model import HyperformerT5
from hyperformer.settings.build import make_config
from hyperformer.settings.deepspeed_json.read import read_user_json
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.memory.allocator import use_expandable_segments

_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def prepare_environment(config: TrainingConfig) -> None:
    """Set what CUDA's libraries read once, when they start. A value that the user has set stays.

    cuBLAS is deterministic with a workspace of its own (NVIDIA's cuBLAS manual, section "Results
    reproducibility"). NCCL's NVLS adds in the switches, in no fixed order.
    """
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("NCCL_ALGO", "^NVLS")


def choose_kernels(config: TrainingConfig) -> None:
    """Choose the kernels of this process, for all that it computes from now on.

    With `deterministic`, an operation that has no deterministic kernel raises RuntimeError.
    """
    torch.use_deterministic_algorithms(config.deterministic)
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = config.tf32
        # The backward passes of the fused attentions add in no fixed order; the plain one is always there.
        torch.backends.cuda.enable_flash_sdp(not config.deterministic)
        torch.backends.cuda.enable_mem_efficient_sdp(not config.deterministic)
        torch.backends.cuda.enable_cudnn_sdp(not config.deterministic)


def uses_tf32(config: TrainingConfig) -> bool:
    """Whether float32 products are in TF32 here, which not every GPU has."""
    return config.tf32 and torch.cuda.is_available() and torch.cuda.is_tf32_supported()


def compute_as_run(model: HyperformerT5) -> torch.device:
    """Have a trained model answer as the evaluations of its run did: its number format, attention and kernels.

    Where nothing is known of its run, the settings' defaults hold. What this machine cannot do is printed.

    Returns:
        the device, on which the model now is.
    """
    known = model.config.answer_settings or {}
    settings = make_config(known, where="answer_settings")
    use_expandable_segments(os.environ)
    prepare_environment(settings.training)
    choose_kernels(settings.training)
    if known.get("tf32") and settings.training.precision == "fp32" and not uses_tf32(settings.training):
        print(
            "the run computed float32 products in TF32, which this machine does not have: answers may differ",
            file=sys.stderr,
        )
    if settings.model.attn_implementation:
        model.set_attn_implementation(settings.model.attn_implementation)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device, _FORMATS[settings.training.precision])
    return device


def describe_numerics(engine: Any, config: TrainingConfig) -> dict[str, Any]:
    """How the engine computes on this machine: for result.json."""
    added = read_user_json(config).result
    weights, sums = (str(dtype).removeprefix("torch.") for dtype in engine.get_data_types())
    return {
        "weights": weights,
        "gradient_sums": sums,
        "zero_stage": engine.zero_optimization_stage(),
        "tf32": uses_tf32(config),
        "deterministic": config.deterministic,
        **({"deepspeed_config": added} if added else {}),
    }


def numerics_in_words(numerics: dict[str, Any]) -> str:
    """A line for people, of what :func:`describe_numerics` returns."""
    words = [numerics["weights"], f"gradients summed in {numerics['gradient_sums']}"]
    words.append(f"ZeRO stage {numerics['zero_stage']}")
    words += ["float32 products in TF32"] if numerics["tf32"] else []
    words += ["deterministic kernels"] if numerics["deterministic"] else []
    return ", ".join(
        [*words, *(f"{key} {value}" for key, value in numerics.get("deepspeed_config", {}).items())]
    )
