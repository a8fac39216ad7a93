"""Which base models there can be: T5, and families that T5's code computes. Imports no torch.

======  ===============================================  ===============================================
type    models                                           beside T5
======  ===============================================  ===============================================
t5      T5, T5 v1.1, LM-adapted T5, flan-T5, UL2, ByT5
mt5     mT5                                              never scales the logits
umt5    umT5                                             the same; every layer has its own position bias
======  ===============================================  ===============================================

transformers has a class for each. With these settings T5's class has the same weights, under the same names, and
computes the same; so adapters, training and saving know one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperformer.adapter_folder import trained_files
from hyperformer.errors import CheckpointError

# What transformers (5.23) does with `tie_word_embeddings: false` of published configs: T5 keeps it as
# `scale_decoder_outputs`, MT5 needs it not, and UMT5 forgets it: its logits are then smaller by d_model ** 0.5 than
# those that the model was pre-trained with. An explicit `scale_decoder_outputs` is obeyed.
_FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {},
    "mt5": {"tie_word_embeddings": False},
    "umt5": {"tie_word_embeddings": False, "relative_bias_per_layer": True},
}

TOY = "toy"
"""The T5 that ships with this package."""

TOY_FOLDER = Path(__file__).parents[2] / "data" / "assets" / "toy-t5"

_LONG = "google/flan-t5-base with a larger max_source_length (T5's positions are relative: it has no longest text)"
_INSTEAD = {
    "led": _LONG,
    "longt5": _LONG,
    "m2m_100": "google/mt5-base",
    "marian": "google/mt5-base",
    "mbart": "google/mt5-base",
    "switch_transformers": "google/t5-v1_1-base (the same without experts)",
}
_ANY = "google/flan-t5-base"


def is_family(model_type: object) -> bool:
    """Whether a config's `model_type` names base models that there can be."""
    return isinstance(model_type, str) and model_type in _FAMILIES


def t5_values(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The content of a base model's config.json, as T5's config takes it.

    Args:
        name: of the base model, for messages.

    Raises:
        CheckpointError: it is not a base model that adapters are made for; says which would be.
    """
    kind = values.get("model_type")
    if trained_files(Path(name)) is not None:
        raise CheckpointError(
            f"{name!r} is a trained adapter or run, and not its T5. Name that T5, and write init_from={name} to start "
            "from what was trained"
        )
    if not is_family(kind):
        what = f"is a {kind} model" if kind else "has no config.json that says its model_type"
        raise CheckpointError(
            f"{name!r} {what}; the adapters are made for T5, T5 v1.1, flan-T5, ByT5, mT5 and umT5. Name one "
            f"of these, for example {_INSTEAD.get(str(kind), _ANY)}"
        )
    if values.get("pad_token_id", 0) is None:
        raise CheckpointError(f"the config of {name!r} has no pad_token_id; T5's is 0: write it there")
    return {**values, **_FAMILIES[str(kind)], "model_type": "t5"}
