"""Sizes of published base models: counting their parameters needs no download."""

from __future__ import annotations

from typing import Any

from transformers import T5Config

from hyperformer.adapters.bases.families import t5_values

_NAMES = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers")

# Raffel et al. 2020, section 3.7.
_T5 = {
    "t5-small": (512, 64, 2048, 8, 6, 6),
    "t5-base": (768, 64, 3072, 12, 12, 12),
    "t5-large": (1024, 64, 4096, 16, 24, 24),
    "t5-3b": (1024, 128, 16384, 32, 24, 24),
    "t5-11b": (1024, 128, 65536, 128, 24, 24),
}
# The configs of google/t5-v1_1-*; those of flan-T5, LM-adapted T5, mT5 and umT5 differ in the vocabulary alone.
_V1_1 = {
    "small": (512, 64, 1024, 6, 8, 8),
    "base": (768, 64, 2048, 12, 12, 12),
    "large": (1024, 64, 2816, 16, 24, 24),
    "xl": (2048, 64, 5120, 32, 24, 24),
    "xxl": (4096, 64, 10240, 64, 24, 24),
}
# Xue et al. 2022, table 1: three times as many layers in the encoder as in the decoder.
_BYT5 = {
    "small": (1472, 64, 3584, 6, 12, 4),
    "base": (1536, 64, 3968, 12, 18, 6),
    "large": (1536, 64, 3840, 16, 36, 12),
    "xl": (2560, 64, 6720, 32, 36, 12),
    "xxl": (4672, 64, 12352, 64, 36, 12),
}
_GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def _configs() -> dict[str, dict[str, Any]]:
    """Name on the hub -> what its config.json says of sizes."""
    t5 = {"model_type": "t5", "vocab_size": 32_128, "decoder_start_token_id": 0}
    found = {name: {**t5, **dict(zip(_NAMES, sizes, strict=True))} for name, sizes in _T5.items()}
    for pattern, more, all_sizes in (
        ("google/t5-v1_1-{}", {}, _V1_1),
        ("google/flan-t5-{}", {}, _V1_1),
        ("google/t5-{}-lm-adapt", {}, _V1_1),
        ("google/mt5-{}", {"model_type": "mt5", "vocab_size": 250_112}, _V1_1),
        ("google/umt5-{}", {"model_type": "umt5", "vocab_size": 256_384}, _V1_1),
        ("google/byt5-{}", {"vocab_size": 384}, _BYT5),
    ):
        for size, sizes in all_sizes.items():
            values = {**t5, **_GATED, **more, **dict(zip(_NAMES, sizes, strict=True))}
            found[pattern.format(size)] = values
    del found["google/umt5-large"]  # never published
    return found


_CONFIGS = _configs()


def published_t5(name: str) -> T5Config | None:
    """The config of a published base model by its name on the hub, without asking the hub; None for any other."""
    values = _CONFIGS.get(name.removeprefix("google-t5/"))
    return None if values is None else T5Config.from_dict(t5_values(values, name))
