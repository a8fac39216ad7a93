"""Checkpoints of the authors' code, and models built from their settings.

Their modules keep each adapter and each generator in a parameter of its own; ours keep those
of a whole stack in one (see ``modules.py``). One table, their name -> slice of ours, serves
both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import T5Config

from hyperformer.adapters.functional import FEED_FORWARD, SELF_ATTENTION, SITES_PER_LAYER
from hyperformer.adapters.hooks import STACKS
from hyperformer.adapters.model import HyperformerT5, hyperformer_config, new_model
from hyperformer.adapters.modules import Hypernetwork, SiteNorms, TaskAdapters
from hyperformer.errors import CheckpointError, nearest
from hyperformer.settings.authors_format import AUTHORS_ADAPTER_DEFAULTS, adapter_settings
from hyperformer.settings.schema import AdapterConfig

CROSS_BIAS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

# Their name, our parameter, and where in it (None: all of it).
Entry = tuple[str, str, Any]


def model_from_reference(
    t5_config: dict[str, Any],
    adapter_args: dict[str, Any] | None,
    tasks: list[str],
    *,
    adapters: list[str] | None = None,
    task_embeddings: list[str] | None = None,
    state_dict: dict[str, Tensor] | None = None,
) -> HyperformerT5:
    """Our model for the authors' settings.

    Args:
        t5_config: settings of T5 (``d_model`` and so on).
        adapter_args: by the authors' names; one that is absent has their default. None: plain T5.
        tasks: in the order of `task_ids`.
        adapters: name of the adapter of each task, where tasks share adapters.
        task_embeddings: name of the embedding of each task, where tasks share embeddings.
        state_dict: their weights to load.

    Raises:
        ConfigError: settings that contradict each other.
        CheckpointError: weights that do not fit the settings.
    """
    settings: dict[str, Any] = {"adapter": "none"}
    if adapter_args is not None:
        settings = adapter_settings({**AUTHORS_ADAPTER_DEFAULTS, **adapter_args})
    if adapters is not None and settings["adapter"] == "task":
        settings["adapters"] = tuple(adapters)
    if task_embeddings is not None and settings["adapter"].startswith("hypernetwork"):
        settings["task_embeddings"] = tuple(task_embeddings)
    config = hyperformer_config(T5Config(**t5_config), AdapterConfig(**settings), tuple(tasks))
    if state_dict is not None:
        # A bias of zero changes nothing, but must be there when the weights are converted back.
        config.cross_attention_bias = CROSS_BIAS in state_dict
    model = new_model(config)
    if state_dict is not None:
        load_reference_state_dict(model, state_dict)
    return model.eval()


def load_reference_state_dict(model: HyperformerT5, state_dict: dict[str, Tensor]) -> None:
    """Copy the authors' weights into our model.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape; the
            model is then unchanged.
    """
    ours = dict(model.named_parameters(remove_duplicate=False))
    entries = list(reference_entries(model))
    known = {theirs for theirs, _, _ in entries}
    unknown = [name for name in state_dict if name not in known]
    if unknown:
        hint = ""
        if unknown[0] == CROSS_BIAS:
            hint = "; build the model by model_from_reference(..., state_dict=...), which makes room for it"
        raise CheckpointError(
            f"checkpoint: {unknown[0]!r} has no place in this model{hint or nearest(unknown[0], known)}"
        )
    missing = [name for name in known if name not in state_dict]
    if missing:
        raise CheckpointError(
            f"checkpoint: {sorted(missing)[0]!r} is missing ({len(missing)} weights in all)"
        )
    for theirs, name, where in entries:
        wanted, found = tuple(_slice(ours[name], where).shape), tuple(state_dict[theirs].shape)
        if wanted != found:
            raise CheckpointError(
                f"checkpoint: {theirs!r} has shape {found}, this model's settings ask for {wanted}"
            )
    with torch.no_grad():
        for theirs, name, where in entries:
            _slice(ours[name], where).copy_(state_dict[theirs])


def reference_state_dict(model: HyperformerT5) -> dict[str, Tensor]:
    """A copy of our weights under the authors' names."""
    ours = dict(model.named_parameters(remove_duplicate=False))
    return {
        theirs: _slice(ours[name].detach(), where).clone() for theirs, name, where in reference_entries(model)
    }


def _slice(parameter: Tensor, where: Any) -> Tensor:
    return parameter if where is None else parameter[where]


def reference_entries(model: HyperformerT5) -> Iterator[Entry]:
    """Every weight of the authors' model of these settings: (their name, our parameter, slice of it)."""
    for name, _ in model.named_parameters(remove_duplicate=False):
        if not name.startswith("adapters."):
            yield name, name, None
    if model.adapters is None:
        return
    embeddings = model.adapters.task_embeddings
    if embeddings is not None:
        for row, task in enumerate(model.adapters.names):
            yield (
                f"task_embedding_controller.task_to_embeddings.{task}",
                "adapters.task_embeddings.weight",
                row,
            )
        if embeddings.projector is not None:
            yield from _projector(
                "task_embedding_controller.task_hyper_net", "adapters.task_embeddings.projector"
            )
    for stack in STACKS:
        module = model.adapters.stacks[stack]
        ours = f"adapters.stacks.{stack}"
        if isinstance(module, TaskAdapters):
            yield from _task_adapters(stack, ours, module, model.adapters.names)
        elif isinstance(module, Hypernetwork):
            yield from _hypernetwork(stack, ours, module)


def _projector(theirs: str, ours: str) -> Iterator[Entry]:
    for number, layer in (("0", "hidden"), ("2", "output")):
        for part in ("weight", "bias"):
            yield f"{theirs}.task_embeding_generator.{number}.{part}", f"{ours}.{layer}.{part}", None


def _sites(stack: str, count: int) -> Iterator[tuple[int, str]]:
    """(site number, name of the authors' module that holds its adapter)."""
    last = 1 if stack == "encoder" else 2
    for site in range(count):
        layer, block = divmod(site, SITES_PER_LAYER)
        sublayer = {FEED_FORWARD: last, SELF_ATTENTION: 0}[block]
        yield site, f"{stack}.block.{layer}.layer.{sublayer}.adapter_controller"


def _norms(stack: str, ours: str, norms: SiteNorms) -> Iterator[Entry]:
    for name in norms.names:
        for part in ("weight", "bias"):
            for site, controller in _sites(stack, getattr(norms, f"{name}_{part}").shape[0]):
                yield (
                    f"{controller}.{name.replace('_norm', '_layer_norm')}.{part}",
                    f"{ours}.{name}_{part}",
                    site,
                )


def _task_adapters(stack: str, ours: str, module: TaskAdapters, names: list[str]) -> Iterator[Entry]:
    sites = module.get_parameter("down_weight").shape[1]
    for site, controller in _sites(stack, sites):
        for row, adapter in enumerate(names):
            for direction in ("down", "up"):
                for part in ("weight", "bias"):
                    theirs = f"{controller}.adapters.{adapter}.{direction}_sampler.{part}"
                    yield theirs, f"{ours}.{direction}_{part}", (row, site)
    yield from _norms(stack, f"{ours}.norms", module.norms)


def _hypernetwork(stack: str, ours: str, module: Hypernetwork) -> Iterator[Entry]:
    net = f"{stack}.adapter_layers_hyper_net"
    if module.kind == "hypernetwork_per_layer":
        owners = [(controller, "meta_", "") for _, controller in _sites(stack, module.sites)]
    elif module.kind == "hypernetwork_per_block_type":
        owners = [(net, "feed_forward_", "_hyper_net"), (net, "self_attention_", "_hyper_net")]
    else:
        owners = [(net, "", "_hyper_net")]
    for number, (owner, prefix, suffix) in enumerate(owners):
        for name, head in module.heads.items():
            rows = head.weight.size(0) // len(owners)  # type: ignore[operator]
            where = slice(number * rows, (number + 1) * rows)
            what, part = name.rsplit("_", 1)
            if what in ("down", "up"):
                theirs = f"{owner}.{prefix}{what}_sampler{suffix}.{part}_generator.0"
            else:
                before = "" if prefix == "meta_" else prefix
                theirs = f"{owner}.{before}{what.replace('_norm', '_layernorm')}_hypernet.{part}_generator"
            for kind in ("weight", "bias"):
                yield f"{theirs}.{kind}", f"{ours}.heads.{name}.{kind}", where
    if module.norms is not None:
        yield from _norms(stack, f"{ours}.norms", module.norms)
    if module.layer_embeddings is not None:
        yield f"{net}.layer_id_embeddings.weight", f"{ours}.layer_embeddings", None
    if module.block_embeddings is not None:
        yield f"{net}.adapters_block_type.weight", f"{ours}.block_embeddings", None
    if module.projector is not None:
        yield from _projector(f"{net}.task_hypernet", f"{ours}.projector")
    if module.embedding_norm is not None:
        for part in ("weight", "bias"):
            yield f"{net}.LayerNorm.{part}", f"{ours}.embedding_norm.{part}", None
