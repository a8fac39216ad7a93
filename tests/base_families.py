"""Small base models of each family, with the settings of the published configs and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from places import FIXTURES
from transformers import (
    ByT5Tokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

T5 = (T5Config, T5ForConditionalGeneration)
FAMILIES: dict[str, tuple[Any, Any]] = {
    "v1_1": T5,
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
    "byt5": T5,
}


def edit(path: Path, **values: Any) -> None:
    """Change values of a JSON file; None removes a key."""
    changed = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))


def make_family(folder: Path, family: str) -> str:
    """A base whose heads together are not as wide as the model, as in the small ones. Returns its folder."""
    config_class, model_class = FAMILIES[family]
    tokenizer = (
        ByT5Tokenizer()
        if family == "byt5"
        else T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e"))
    )
    config = config_class(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_heads=3, num_layers=3,
        num_decoder_layers=1 if family == "byt5" else 3, feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = model_class(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # As published: today's transformers writes other settings for it, or forgets it.
    tokenizer_class = "ByT5Tokenizer" if family == "byt5" else "T5Tokenizer"
    edit(
        folder / "config.json",
        tie_word_embeddings=False,
        scale_decoder_outputs=None,
        tokenizer_class=tokenizer_class,
    )
    return str(folder)
