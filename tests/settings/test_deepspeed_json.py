"""What a user's DeepSpeed JSON may say beside the settings, and how it is refused: always before anything loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import FIXTURES

from hyperformer.data.contents import identify
from hyperformer.errors import ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.deepspeed_json.read import UserJson, read_user_json
from hyperformer.settings.signature import signature

REFUSED = FIXTURES / "deepspeed" / "refused"


def read(path: Path, rows: int | None = None, **settings: Any) -> UserJson:
    return read_user_json(make_config({"deepspeed_config": str(path), **settings}).training, rows)


def written(folder: Path, values: Any) -> Path:
    path = folder / "ds.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nvme_offload", ['offload_optimizer.device is "nvme"', 'offload_param.device is "nvme"', "aio: only NVMe"]),
        ("fused_lamb", ['optimizer.type is "Lamb", but must be "AdamW" or "Adam"', "Remove the section"]),
        ("one_cycle", ['scheduler.type is "OneCycle", but must be "WarmupLR" or']),
        ("zero_plus_plus", ["quantized_weights is true, but must be false", "hpz_partition_size is 8, but must be 1"]),
        ("bert_with_old_keys", [
            'zero_optimization is true, but must be an object, such as {"stage": "auto"}', "elasticity: DeepSpeed",
            "sparse_attention, progressive_layer_drop, compression_training: DeepSpeed 0.19 no longer has it",
            "amp.enabled is true, but must be false",
        ]),
        ("large_model_parallel", [
            "pipeline, tensor_parallel: ", "write the setting gradient_checkpointing=true", "checkpoint: ",
            "torch_autocast: ", "data_efficiency: ",
        ]),
        ("monitors", ["tensorboard, wandb, flops_profiler, comms_logger, wall_clock_breakdown: "]),
        ("typos", [
            "zero_optimisation: DeepSpeed 0.19 has no such key; did you mean 'zero_optimization'?",
            "zero_optimization.overlap_com: DeepSpeed 0.19 has no such key; did you mean 'overlap_comm'?",
            "offload_optimizer.divice: DeepSpeed 0.19 has no such key; did you mean 'device'?",
            "did you mean 'train_micro_batch_size_per_gpu'?", "did you mean 'gradient_clipping'?",
            "fp16.enable: DeepSpeed 0.19 has no such key; did you mean 'enabled'?", 'scheduler.type is "auto"',
        ]),
    ],
)  # fmt: skip
def test_what_a_run_cannot_honour_is_refused_at_once(name: str, told: list[str]) -> None:
    """Key path, file, why and what to write; every key in one error."""
    with pytest.raises(ConfigError, match=f"^deepspeed_config .*{name}.json: ") as error:
        read(REFUSED / f"{name}.json")
    for text in told:
        assert text in str(error.value)
    assert "zero_optimization.stage" not in str(error.value) or "zero_stage" in str(error.value)


@pytest.mark.parametrize(
    ("values", "settings", "told"),
    [
        ({"zero_optimization": {"stage": 2}}, {"zero_stage": 1}, "is 2, but .* zero_stage is 1; write zero_stage=2"),
        ({"bf16": {"enabled": False}}, {"precision": "bf16"}, "false, but .* precision is bf16; write precision=fp32"),
        ({"fp16": {"enabled": True}}, {}, "fp16.enabled is true, but .* precision is fp32; write precision=fp16"),
        ({"fp16": {"enabled": 1}}, {}, 'fp16.enabled is 1, but must be true or false, or "auto"'),
        ({"gradient_clipping": 0.5}, {}, "is 0.5, but the setting max_grad_norm is 1.0; write max_grad_norm=0.5"),
        ({"train_micro_batch_size_per_gpu": 8}, {}, "8, but .* per_device_train_batch_size is 32"),
        ({"optimizer": {"params": {"betas": [0.8, 0.9]}}}, {}, "write adam_beta1=0.8 adam_beta2=0.9, or"),
        ({"optimizer": {"params": {"betas": 0.8}}}, {}, "betas is 0.8, but must be a list of 2"),
        ({"optimizer": {"params": {"adam_w_mode": False}}}, {}, "Adam with L2 regularisation"),
        ({"optimizer": {"params": {"max_grad_norm": 1.0}}}, {}, '"gradient_clipping": "auto"'),
        ({"scheduler": {"type": "WarmupLR"}}, {}, "lr_scheduler is linear; write lr_scheduler=constant_w_warmup"),
        ({"scheduler": {"type": "WarmupDecayLR"}}, {"warmup_steps": 0}, "warmup_steps is 0, but .* 2 at least"),
        ({"scheduler": {"type": "WarmupDecayLR"}}, {"generator_learning_rate": 1e-3}, "have one learning rate for all"),
        ({"scheduler": {"type": "WarmupDecayLR", "params": {"cos_min_ratio": 0.1}}}, {}, "WarmupDecayLR has no such"),
        ({"scheduler": {"params": {"warmup_type": "log"}}}, {}, "scheduler has no type; write one of WarmupLR"),
        ({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 9}}}, {"num_train_epochs": 1},
         "how long the run is will be known when its rows are read; write \"auto\" there"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, {}, "needs ZeRO, .* zero_stage=1, 2 or 3"),
        ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, {"zero_stage": 2}, "write zero_stage=3, or"),
        ({"zero_optimization": {"sub_group_size": "auto"}}, {}, 'sub_group_size is "auto", but must be a whole number'),
        ({"zero_optimization": {"overlap_comm": "yes"}}, {}, 'is "yes", but must be true or false or null'),
        ({"zero_optimization": {"reduce_bucket_size": 0.5}}, {}, "a whole number above 0"),
        ({"zero_optimization": {"cpu_offload": True}}, {}, '"offload_optimizer": {"device": "cpu"}'),
        ({"zero_optimization": {"offload_optimizer": {"ratio": 0.5}}}, {}, "ratio is 0.5, but must be 1"),
        ({"zero_force_ds_cpu_optimizer": True}, {}, "needs no compiler"),
        ({"communication_data_type": "fp8"}, {}, 'must be "fp32" or "fp16" or "bf16" or null'),
        ({"bf16": {"loss_scale": 0}}, {}, "bf16.loss_scale: DeepSpeed 0.19 has no such key"),
        ({"data_types": {"grad_accum_dtype": "fp32"}}, {"precision": "bf16", "zero_stage": 0}, "or fp32 with"),
        ({"train_batch_size": 0}, {}, "train_batch_size is 0, but must be a whole number above 0"),
        ({"zero_optimization.overlap_comm": True}, {}, "zero_optimization.overlap_comm: DeepSpeed 0.19 has no"),
        ({"": 1}, {}, ": DeepSpeed 0.19 has no such key"),
        ({"zero_optimization": {"sub_group_size": 1e999}}, {}, "Infinity, but must be a whole number"),
        ('{"aio": ' * 600 + "1" + "}" * 600, {}, "aio: only NVMe offload uses it"),
        ('{"zero_optimization": {"sub_group_size": -1%s}}' % ("0" * 400), {}, "must be a whole number"),
        ('{"a": 1, "a": 2}', {}, "it has a more than once"),
        ("[1]", {}, "must be one JSON object"),
        ('{"a": ', {}, "not JSON that can be read: .*line 1"),
    ],
)  # fmt: skip
def test_a_contradiction_names_both_and_what_to_write(
    values: Any, settings: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^deepspeed_config .*ds.json: .*{told}"):
        read(written(tmp_path, values), **settings)


def test_the_global_batch_is_compared_where_the_ranks_are_known(tmp_path: Path) -> None:
    path = written(tmp_path, {"train_batch_size": 64})
    assert read(path) == read(path, 64) == UserJson()
    with pytest.raises(ConfigError, match='is 64, but the settings make it 32 .*; write "auto"'):
        read(path, 32)
    with pytest.raises(ConfigError, match=r"deepspeed_config .*none.json is missing"):
        read(tmp_path / "none.json")


def signature_of(folder: Path, values: Any, **settings: Any) -> str:
    folder.mkdir(exist_ok=True)
    named = {} if values is None else {"deepspeed_config": str(written(folder, values))}
    base = {"tasks": ["rte"], "zero_stage": 2, "lr_scheduler": "constant_w_warmup"}
    return signature(identify(make_config({**base, **named, **settings}), None, ranks=1))


def test_the_signature_holds_what_the_file_changes(tmp_path: Path) -> None:
    """Not its path, not what it repeats of the settings, not what only costs time or memory."""
    zero = {
        "stage": 2,
        "overlap_comm": True,
        "reduce_bucket_size": 5e8,
        "offload_optimizer": {"device": "none"},
    }
    plain = signature_of(tmp_path, None)
    for same in (
        {},
        {"zero_optimization": zero, "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}}},
        {"zero_optimization": {"stage": "auto"}, "wandb": {"enabled": False}, "steps_per_print": 5},
        {"fp16": {"enabled": "auto", "initial_scale_power": 8}, "bf16": {"check_grad_overflow": False}},
    ):
        assert signature_of(tmp_path, same) == plain, same
    offload = {"zero_optimization": {**zero, "offload_optimizer": {"device": "cpu", "pin_memory": True}}}
    others = {
        signature_of(tmp_path, offload),
        signature_of(tmp_path, {"communication_data_type": "fp16"}),
        signature_of(tmp_path, {"scheduler": {"type": "WarmupLR"}}),
        signature_of(tmp_path, {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "linear"}}}),
        signature_of(tmp_path, {"bf16": {"check_grad_overflow": False}}, precision="bf16"),
        signature_of(tmp_path, {"data_types": {"grad_accum_dtype": "bf16"}}, precision="bf16"),
        signature_of(tmp_path, {"data_types": {"grad_accum_dtype": "fp32"}}, precision="bf16"),
        plain,
    }
    assert len(others) == 8 and signature_of(tmp_path, None, precision="bf16") in others
    spelled = json.dumps(offload, indent=4).replace("500000000.0", "5e8")
    assert signature_of(tmp_path / "elsewhere", spelled) == signature_of(tmp_path, offload)
    assert (
        signature_of(tmp_path, {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "log"}}})
        in others
    )


def test_a_file_is_checked_without_torch() -> None:
    code = "import sys, hyperformer.settings.deepspeed_json.read; print({'torch', 'deepspeed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
