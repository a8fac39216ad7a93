"""Small T5s with a tokenizer, and adapters trained on them (as far as random weights are training)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from places import FIXTURES
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from hyperformer.adapters.build import build_model
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.record import base_fingerprint
from hyperformer.adapters.save import run_record, write_adapter
from hyperformer.settings.build import make_config
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.values import settings as known_settings

TASKS = ["cola", "mrpc", "stsb"]
KINDS = ["task", "hypernetwork_per_layer", "hypernetwork_per_block_type", "hypernetwork_shared"]
RESULT = {
    "validation": {"cola": {"mcc": 12.345}},
    "test": {"cola": {"mcc": 10.0}, "mrpc": {"f1": 81.5, "acc": 70.25}},
    "parameters": {"trained": 1234, "total": 56789, "trained_percent_per_task": 0.72},
    "seed": 3,
}


def make_base(folder: Path, seed: int = 0, **sizes: Any) -> str:
    """A plain T5 with weights that matter, and the tokenizer of the reference. Returns its folder."""
    tokenizer = T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e"))
    torch.manual_seed(seed)
    settings = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=len(tokenizer), dropout_rate=0.1, **settings | sizes)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings(base: str, kind: str, **more: Any) -> RunConfig:
    values = {
        "model_name_or_path": base,
        "tasks": TASKS,
        "adapter": kind,
        "variant": "hyperformer++",
        "reduction_factor": 4,
        "task_embedding_dim": 12,
        "projected_task_embedding_dim": 6,
        "task_hidden_dim": 10,
        "vera_rank": 4,
        "unfreeze_layer_norms": kind != "none" and not METHODS[kind].extra,
        **more,
    }
    return make_config({key: value for key, value in values.items() if known_settings()[key].is_used(values)})


def train(config: RunConfig) -> tuple[HyperformerT5, str | None]:
    """A model whose trained weights have moved, and the fingerprint of its T5 before."""
    torch.manual_seed(1)
    model = build_model(config)
    fingerprint = None if config.model.random_init else base_fingerprint(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.3 if name.startswith("adapters.") else 0.05))
    return model.eval(), fingerprint


def make_adapter(folder: Path, base: str, kind: str = "hypernetwork_shared", **more: Any) -> HyperformerT5:
    """An adapter's folder as a run leaves it; returns the model that it was saved from."""
    config = settings(base, kind, **more)
    model, fingerprint = train(config)
    begins = "" if fingerprint is None else "adapters."
    weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad or n.startswith(begins)}
    record = run_record(config, model.config, fingerprint, tf32=False)
    write_adapter(folder, weights, record, task_file=config.data.task_file, result=RESULT)
    return model


def batch(vocabulary: int, rows: int = 4) -> dict[str, torch.Tensor]:
    source = torch.randint(3, vocabulary, (rows, 7), generator=torch.Generator().manual_seed(2))
    return {
        "input_ids": source,
        "attention_mask": torch.ones_like(source),
        "decoder_input_ids": source[:, :3],
    }
