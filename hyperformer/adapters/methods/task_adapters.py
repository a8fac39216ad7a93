"""`task`: an adapter per task after self-attention and feed-forward (Houlsby et al. 2019)."""

from __future__ import annotations

from typing import Any

from hyperformer.adapters.functional import SITES_PER_LAYER
from hyperformer.adapters.hooks import attach_sites
from hyperformer.adapters.init_from.rows import Rows
from hyperformer.adapters.methods.method import Method, Sizes
from hyperformer.adapters.modules import Adapters, TaskAdapters, distinct, norm_names
from hyperformer.settings.schema import AdapterConfig


class PerTask(Method):
    """A bank of adapters."""

    static = "task"

    def attach(self, model: Any) -> Adapters:
        config, width = model.config.adapter_config, model.config.d_model
        rows = Rows.of(config, tuple(model.config.tasks or ())).names
        stacks = {
            stack: TaskAdapters(config, len(distinct(rows)), len(getattr(model, stack).block), width)
            for stack in ("encoder", "decoder")
        }
        return attach_sites(model, Adapters(rows, {**stacks}))

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """Per task and site 2kd + k + d (Houlsby et al. 2019, section 2.1), and the layer norms, which tasks share."""
        bottleneck, sites = (
            sizes.width // config.reduction_factor,
            SITES_PER_LAYER * sum(sizes.layers.values()),
        )
        adapter = 2 * bottleneck * sizes.width + bottleneck + sizes.width
        return sites * (sizes.tasks * adapter + 2 * sizes.width * len(norm_names(config)))
