"""`task`: an adapter per task after self-attention and feed-forward (Houlsby et al. 2019).
`pfeiffer`: after the feed-forward only (Pfeiffer et al. 2021)."""

from __future__ import annotations

from typing import Any

from hyperformer.adapters.functional import SITES_PER_LAYER
from hyperformer.adapters.hooks import attach_sites
from hyperformer.adapters.init_from.rows import Rows
from hyperformer.adapters.methods.method import Method, Sizes, depths
from hyperformer.adapters.modules import AdapterModule, Adapters, TaskAdapters, distinct, norm_names
from hyperformer.settings.schema import AdapterConfig


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
