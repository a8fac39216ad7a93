"""Loading a base model: the tokenizer, config and weights of a T5, each checked to fit the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, T5Config
from transformers import logging as transformers_logging

from hyperformer.adapters.bases.families import TOY, TOY_FOLDER, t5_values
from hyperformer.adapters.hooks import STACKS
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.t5.config import HyperformerConfig, token_ids_only
from hyperformer.errors import CheckpointError
from hyperformer.hub_access import not_in_cache, why_offline
from hyperformer.settings.config_files import ConfigWarning
from hyperformer.settings.schema import ModelConfig


def model_path(name: str) -> str:
    """The name or folder that transformers loads; 'toy' is the T5 that ships with us."""
    return str(TOY_FOLDER) if name == TOY else name


def _from_pretrained(load: Callable[..., Any], name: str, what: str, **kwargs: Any) -> Any:
    """`load` of transformers, with its many errors turned into one that says what to do."""
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise CheckpointError(f"{what} of {name!r} cannot be loaded: there is no such folder")
    path = model_path(name)
    if not Path(path).is_dir():
        why_offline()
    try:
        return load(path, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        offline = not_in_cache(error)
        if offline:
            advice = "or name a folder made by save_pretrained, or 'toy'"
            raise CheckpointError(f"{what} of {name!r} cannot be loaded: {offline}, {advice}") from error
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"{what} of {name!r} cannot be loaded: {reason}. Name a T5 on the Hugging Face hub, a folder made "
            "by save_pretrained, or 'toy'"
        ) from error


def load_tokenizer(config: ModelConfig, t5: T5Config | None = None) -> Any:
    """The tokenizer of the run's model.

    Args:
        t5: config of the T5 that reads the tokens; default: that of the run's model.

    Raises:
        CheckpointError: it cannot be loaded, or does not fit the T5.
    """
    name = config.tokenizer_name or config.model_name_or_path
    t5 = t5 or load_t5_config(config.model_name_or_path)
    tokenizer = _from_pretrained(AutoTokenizer.from_pretrained, name, "the tokenizer")
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"the tokenizer of {name!r} is not one for T5: it has no token for padding or for the end of a "
            "text. Name a T5's by tokenizer_name"
        )
    _check_vocabulary(tokenizer, name)
    _check_special_tokens(tokenizer, t5, name)
    if len(tokenizer) > t5.vocab_size:
        raise CheckpointError(
            f"the tokenizer of {name!r} has {len(tokenizer):,} tokens, and the T5 has embeddings of "
            f"{t5.vocab_size:,}. Name the T5's own tokenizer, or enlarge the T5: load it, call "
            "resize_token_embeddings, save it"
        )
    return tokenizer


def _check_vocabulary(tokenizer: Any, name: str) -> None:
    """See that it knows texts: of a folder without its files transformers makes one that reads all words as unknown.

    Raises:
        CheckpointError: it has special tokens only, and that of a blank.
    """
    if len(tokenizer) - len(tokenizer.get_added_vocab()) > 1:
        return
    files = " or ".join(sorted(tokenizer.vocab_files_names.values(), reverse=True))
    raise CheckpointError(
        f"the tokenizer of {name!r} knows no text: its vocabulary is not there ({files}). Copy the files of the T5's "
        "tokenizer there, or name a tokenizer by tokenizer_name"
    )


def _check_special_tokens(tokenizer: Any, t5: T5Config, name: str) -> None:
    """See that a text ends, and is padded, as the T5 knows it; raises CheckpointError."""
    ends = t5.eos_token_id if isinstance(t5.eos_token_id, list) else [t5.eos_token_id]
    written = tokenizer("a")["input_ids"]
    if written[-1:] != [tokenizer.eos_token_id] or written[-1] not in ends:
        raise CheckpointError(
            f"the tokenizer of {name!r} writes the text 'a' as {written}, and the T5 knows the end of a text by "
            f"{' or '.join(map(str, ends))} (eos_token_id). Name the T5's own tokenizer by tokenizer_name"
        )
    if tokenizer.pad_token_id != t5.pad_token_id:
        raise CheckpointError(
            f"the tokenizer of {name!r} pads with {tokenizer.pad_token_id}, and the T5 with {t5.pad_token_id} "
            "(pad_token_id). Name the T5's own tokenizer by tokenizer_name"
        )


def load_t5_config(name: str) -> T5Config:
    """T5's own config.

    Raises:
        CheckpointError: it cannot be loaded, or is not a T5.
    """
    values, _ = _from_pretrained(T5Config.get_config_dict, name, "the config")
    return T5Config.from_dict(t5_values(values, name))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without progress bars, and without a list of all adapter weights that T5 lacks."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def load_base(name: str, config: HyperformerConfig) -> HyperformerT5:
    """A model with T5's weights from a checkpoint, and new adapters.

    Raises:
        CheckpointError: it cannot be loaded, or its weights are not those of its config.
    """
    with quiet_transformers():
        # In float32, whatever the checkpoint was saved in: the engine casts.
        model, report = _from_pretrained(
            HyperformerT5.from_pretrained, name, "the weights", config=config,
            generation_config=token_ids_only(config), dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    check_shapes(report, name)
    lacking = sorted(key for key in report["missing_keys"] if model.method.t5_name(key) is not None)
    if lacking:
        raise CheckpointError(
            f"the weights of {name!r} lack {len(lacking)} of T5's, {lacking[0]!r} among them"
        )
    unknown = sorted(key for key in report["unexpected_keys"] if key.startswith(STACKS))
    if unknown:
        raise CheckpointError(
            f"the weights of {name!r} have {len(unknown)} for which its config.json has no place, {unknown[0]!r} among "
            "them: without these it would compute something else. Name a plain T5, as save_pretrained writes it"
        )
    check_scale(model, name)
    return model


def check_shapes(report: Mapping[str, Any], name: str) -> None:
    """See that all weights had the shapes that the config asks for; transformers would only log which had not.

    Args:
        report: of `from_pretrained` with `ignore_mismatched_sizes`, which leaves the others as they are at random.

    Raises:
        CheckpointError: some had not.
    """
    for key, there, here in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"the weights of {name!r} do not fit its config.json: {key!r} has shape {tuple(there)}, and the config "
            f"asks for {tuple(here)}. Copy both again from one place"
        )


def check_scale(model: HyperformerT5, name: str) -> None:
    """See that the logits are scaled as the base's were: where the output layer is the embeddings', and only there.

    Raises:
        CheckpointError: an umT5 with tied weights, which no one published, does not say.
    """
    config = model.config
    if config.relative_bias_per_layer and not (model.has_own_lm_head or config.scale_decoder_outputs):
        raise CheckpointError(
            f"{name!r} is an umT5 whose output layer is its embeddings'. transformers scales the logits of such a "
            'model: write "scale_decoder_outputs": true into its config.json'
        )
    if not (model.has_own_lm_head or config.scale_decoder_outputs):
        warnings.warn(
            f"the weights of {name!r} have no output layer, though its config.json says that it has one of its own: "
            "the embeddings are taken, as transformers does. If it is a T5 v1.1, flan-T5 or mT5, its "
            "lm_head.weight got lost: copy the weights again",
            ConfigWarning,
            stacklevel=3,
        )
    if model.has_own_lm_head and config.scale_decoder_outputs:
        warnings.warn(
            f"{name!r} has an output layer of its own, and its config.json says that its logits are scaled. "
            "transformers 5.0 wrote that for T5 v1.1 and flan-T5, where it is wrong: if this is one of them, write "
            '"scale_decoder_outputs": false there',
            ConfigWarning,
            stacklevel=3,
        )
