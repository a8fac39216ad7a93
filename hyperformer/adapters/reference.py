"""Weights of the authors' checkpoints: their names, and where in our parameters each of them is.

Their modules keep each adapter and each generator in a parameter of its own; ours keep those
of a whole stack in one (see :mod:`hyperformer.adapters.methods`). One table, their name -> slice of ours, serves
both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hyperformer.adapters.functional import FEED_FORWARD, SELF_ATTENTION, SITES_PER_LAYER
from hyperformer.adapters.hooks import STACKS
from hyperformer.adapters.methods.hypernetworks import Hypernetwork
from hyperformer.adapters.methods.task_adapters import TaskAdapters
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.modules import SiteNorms
from hyperformer.errors import CheckpointError, nearest
from hyperformer.settings.schema import AdapterConfig

CROSS_BIAS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

# Settings that decide what an adapter computes, and that the authors' code has not.
_OURS_ALONE = ("task_embedding_norm", "generator_scaling", "parallel_feed_forward_adapter")

_THEIR_METHODS = (
    "none", "task", "hypernetwork_per_layer", "hypernetwork_per_block_type", "hypernetwork_shared",
)  # fmt: skip

# Their name, our parameter, and where in it (None: all of it).
Entry = tuple[str, str, Any]


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
            hint = "; the model's config needs cross_attention_bias=True"
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
    """Every weight of the authors' model of these settings: (their name, our parameter, slice of it).

    Raises:
        CheckpointError: their code has no such model.
    """
    adapter = model.config.adapter_config
    ours_alone = [key for key in _OURS_ALONE if getattr(adapter, key) != getattr(AdapterConfig(), key)]
    if ours_alone:
        raise CheckpointError(f"{', '.join(ours_alone)}: the authors' code has no such setting")
    if adapter.adapter not in _THEIR_METHODS:
        raise CheckpointError(f"adapter is {adapter.adapter}: the authors' code has no such method")
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
