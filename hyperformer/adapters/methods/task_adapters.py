"""`task`: an adapter per task after self-attention and feed-forward (Houlsby et al. 2019).
`pfeiffer`: after the feed-forward only (Pfeiffer et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from hyperformer.adapters.functional import SITES_PER_LAYER, BatchAdapters, Sites, split_sites
from hyperformer.adapters.hooks import attach_sites
from hyperformer.adapters.init_from.rows import Rows
from hyperformer.adapters.methods.method import Method, Sizes, depths
from hyperformer.adapters.modules import (
    INIT_STD,
    AdapterModule,
    Adapters,
    SiteNorms,
    distinct,
    field_shapes,
    norm_names,
)  # fmt: skip
from hyperformer.settings.schema import AdapterConfig


class TaskAdapters(AdapterModule):
    """One adapter per task at every site: parameters (A, N, ...) for A adapters (Houlsby et al. 2019).

    The adapters of all tasks are in one tensor. The tasks that are not drawn in a step then
    have a gradient of zero instead of none, and AdamW's momentum moves them, as in the
    authors' torch 1.7 and in every ZeRO stage.
    """

    rows_are_tasks = True

    def __init__(self, config: AdapterConfig, adapters: int, sites: int, width: int) -> None:
        super().__init__()
        for name, shape in field_shapes(config, width).items():
            self.register_parameter(name, nn.Parameter(torch.empty(adapters, sites, *shape)))
        self.norms = SiteNorms(norm_names(config), sites, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("_weight"):
                init.normal_(parameter, std=INIT_STD)
            else:
                init.zeros_(parameter)

    def forward(self, adapter: int | BatchAdapters) -> Sites:
        """Adapter number `adapter` at every site; or those of a batch."""
        bank = dict(self.named_parameters(recurse=False))
        if isinstance(adapter, int):
            picked = {name: tensor[adapter] for name, tensor in bank.items()}
            return split_sites({**picked, **self.norms(None)}, None)
        picked = {name: adapter.of(tensor) for name, tensor in bank.items()}
        count = next(iter(picked.values())).shape[0]
        return split_sites({**picked, **self.norms(count)}, adapter)


class PerTask(Method):
    """A bank of adapters."""

    def __init__(self, sites_per_layer: int = SITES_PER_LAYER) -> None:
        self.sites_per_layer = sites_per_layer
        self.static = "task" if sites_per_layer == SITES_PER_LAYER else "pfeiffer"

    def attach(self, model: Any) -> Adapters:
        rows = Rows.of(model.config.adapter_config, tuple(model.config.tasks or ())).names
        stacks = {
            stack: self.bank(model, len(distinct(rows)), layers * self.sites_per_layer)
            for stack, layers in depths(model).items()
        }
        return attach_sites(model, self.adapters(model, rows, stacks))

    def bank(self, model: Any, rows: int, sites: int) -> AdapterModule:
        """The adapters of a stack."""
        return TaskAdapters(model.config.adapter_config, rows, sites, model.config.d_model)

    def adapters(self, _model: Any, rows: tuple[str, ...], stacks: dict[str, AdapterModule]) -> Adapters:
        """Those of both stacks."""
        return Adapters(rows, stacks, feed_forward_only=self.sites_per_layer == 1)

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """Per task and site 2kd + k + d (Houlsby et al. 2019, section 2.1), and the layer norms, which tasks share."""
        bottleneck, sites = (
            sizes.width // config.reduction_factor,
            self.sites_per_layer * sum(sizes.layers.values()),
        )
        adapter = 2 * bottleneck * sizes.width + bottleneck + sizes.width
        return sites * (sizes.tasks * adapter + 2 * sizes.width * len(norm_names(config)))
