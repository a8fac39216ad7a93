"""Settings of the model: which T5, the tuning method, and what trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema.field import FRACTION, PATH, PATH_OR_NAME, SIZE, setting

if TYPE_CHECKING:
    AdapterKind = str
else:
    AdapterKind = Literal[tuple(METHODS)]


@dataclass(frozen=True)
class ModelConfig:
    """Which T5, what its weights are at the start, and which of its own parameters train."""

    model_name_or_path: str = setting(
        "t5-base", "T5 on the hub, a local folder, or 'toy' (ships with us)", path=PATH_OR_NAME
    )
    tokenizer_name: str | None = setting(
        None, "tokenizer name or folder; default: the model's", path=PATH_OR_NAME
    )
    random_init: bool = setting(False, "do not load the weights: build from the model's config alone")
    init_from: str | None = setting(
        None,
        "folder of a finished run (or its adapter/): start from its trained weights, with a new optimizer",
        path=PATH,
    )
    init_tasks: Mapping[str, str | None] | None = setting(
        None,
        "init_from: which task of that run each task starts from, such as {scitail: mnli}; null: from new "
        "weights; default: the task of the same name",
        hash=False,
    )
    dropout: float | None = setting(None, "dropout rate; default: the model's own", bounds=FRACTION)
    attn_implementation: Literal["sdpa", "eager"] | None = setting(
        None,
        "how attention is computed, by transformers' names; they round differently; default: transformers'",
        answers=True,
    )
    freeze_model: bool = setting(False, "freeze all of T5 and the adapters")
    freeze_encoder: bool = setting(False, "freeze the encoder, its adapters included")
    freeze_embeds: bool = setting(False, "freeze the token embeddings")
    freeze_model_but_lm_head: bool = setting(False, "train the output layer only")
    freeze_model_but_task_embeddings: bool = setting(False, "train the task embeddings only")
    unfreeze_lm_head: bool = setting(False, "train the output layer (T5 ties it to the embeddings) too")
    unfreeze_layer_norms: bool = setting(False, "train T5's layer norms too")
    unfreeze_model: bool = setting(False, "train everything, whatever the settings above say")


@dataclass(frozen=True)
class AdapterConfig:
    """The tuning method and its options; :mod:`hyperformer.settings.methods` says which method uses which."""

    adapter: AdapterKind = setting(
        "none", "; ".join(f"{name}: {method.words}" for name, method in METHODS.items())
    )
    reduction_factor: int = setting(32, "T5's width divided by the adapter's bottleneck", bounds=SIZE)
    non_linearity: str = setting(
        "gelu_new", "activation between down and up projection (name in transformers)"
    )
    add_layer_norm_before_adapter: bool = setting(False, "layer norm on the adapter's input")
    add_layer_norm_after_adapter: bool = setting(
        True, "layer norm on the adapter's output, before the residual"
    )
    conditional_layer_norm: bool = setting(
        False,
        "hypernetwork_per_layer: generate the layer norms too (the shared ones always do)",
    )
    task_embedding_dim: int = setting(64, "width of the trained task embeddings", bounds=SIZE)
    projected_task_embedding_dim: int = setting(
        64, "width of the embedding that the generators read", bounds=SIZE
    )
    task_hidden_dim: int = setting(128, "hidden width of the network that projects embeddings", bounds=SIZE)
    train_task_embeddings: bool = setting(False, "project the task embedding by a network before its use")
    unique_hyper_net_layer_norm: bool = setting(True, "layer norm on the projected embedding (shared ones)")
    task_embedding_norm: bool = setting(
        False,
        "hypernetwork_per_layer: layer norm on the embedding that the generators read, as the shared ones have by "
        "unique_hyper_net_layer_norm (Ortiz et al. 2023)",
    )
    generator_init: Literal["reference", "near_identity"] = setting(
        "reference",
        "generators at the start; reference: the authors'; near_identity: the generators of up-projections are zero "
        "and those of down-projections small, so that T5's answers do not change (after Houlsby et al. 2019, "
        "section 3.6), and the networks that project embeddings keep their size (He et al. 2015); it needs "
        "add_layer_norm_after_adapter=false",
    )
    generator_scaling: Literal["none", "sqrt_width", "width"] = setting(
        "none",
        "what divides the embedding that the generators read: its width or the root of it, so that a learning rate "
        "moves generated weights alike at every width (Yang et al. 2022, table 3)",
    )
    parallel_feed_forward_adapter: bool = setting(
        False,
        "the feed-forward's adapter reads the feed-forward's input, and not its output (He et al. 2022, section 3.3)",
    )
    kronecker_terms: int = setting(
        4,
        "compacter: how many Kronecker products a projection is the sum of (n of the paper); it divides T5's width and "
        "the bottleneck",
        bounds=SIZE,
    )
    kronecker_rank: int = setting(1, "compacter: rank of each product's own factor", bounds=SIZE)
    adapters: tuple[str, ...] | None = setting(None, "adapters: a name per task; equal names share one")
    task_embeddings: tuple[str, ...] | None = setting(None, "a name per task; equal names share an embedding")
    lora_rank: int = setting(8, "rank of a matrix's change", bounds=SIZE)
    lora_alpha: int = setting(16, "the change is scaled by lora_alpha / lora_rank", bounds=SIZE)
    lora_dropout: float = setting(0.0, "dropout on what the change reads", bounds=FRACTION)
    vera_rank: int = setting(256, "rank of the shared random matrices", bounds=SIZE)
    target_modules: tuple[str, ...] | None = setting(
        None,
        "T5's matrices that are adapted, of q, k, v, o, wi (gated: wi_0, wi_1), wo; default: the paper's",
    )
    virtual_tokens: int = setting(20, "length of the prompt or prefix", bounds=SIZE)
    prefix_projection: bool = setting(False, "make the prefix by a trained network, as the paper does")
    prompt_hidden_dim: int | None = setting(
        None, "hidden width of the network that makes prompt or prefix; default: T5's width", bounds=SIZE
    )
