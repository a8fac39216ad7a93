"""The paper's methods: hypernetworks that generate the adapters from task embeddings (sections 2.3 and 2.4)."""

from __future__ import annotations

from typing import Any

from hyperformer.adapters.functional import SITES_PER_LAYER
from hyperformer.adapters.hooks import attach_sites
from hyperformer.adapters.init_from.rows import Rows
from hyperformer.adapters.methods.method import Method, Sizes, depths
from hyperformer.adapters.modules import (
    AdapterModule,
    Adapters,
    Hypernetwork,
    TaskEmbeddings,
    distinct,
    norm_names,
)
from hyperformer.settings.schema import AdapterConfig


class Hypernetworks(Method):
    """The three kinds; the table in :class:`~hyperformer.adapters.modules.Hypernetwork` says how they differ."""

    generates = True
    static = "task"

    def attach(self, model: Any) -> Adapters:
        config, width = model.config.adapter_config, model.config.d_model
        rows = Rows.of(config, tuple(model.config.tasks or ())).names
        embeddings = TaskEmbeddings(config, len(distinct(rows)))
        stacks: dict[str, AdapterModule] = {
            stack: Hypernetwork(config, layers, width) for stack, layers in depths(model).items()
        }
        return attach_sites(model, Adapters(rows, stacks, embeddings))

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """Each head with r inputs and o outputs has r * o + o; then embeddings, projections, layer norms."""
        dim, hidden, projected = (
            config.task_embedding_dim, config.task_hidden_dim, config.projected_task_embedding_dim,
        )  # fmt: skip
        width, bottleneck, norms = (
            sizes.width,
            sizes.width // config.reduction_factor,
            len(norm_names(config)),
        )
        per_layer = config.adapter == "hypernetwork_per_layer"
        read = projected if not per_layer or config.train_task_embeddings else dim
        found = sizes.tasks * dim
        if config.train_task_embeddings:
            found += _network(dim, hidden, projected)
        adapter = 2 * bottleneck * width + bottleneck + width
        if not per_layer or config.conditional_layer_norm:
            adapter += 2 * width * norms
        for layers in sizes.layers.values():
            sites = layers * SITES_PER_LAYER
            heads = {"hypernetwork_per_layer": sites, "hypernetwork_shared": 1}.get(
                config.adapter, SITES_PER_LAYER
            )
            found += heads * adapter * (read + 1)
            if per_layer:
                found += 0 if config.conditional_layer_norm else sites * 2 * width * norms
                found += 2 * read * config.task_embedding_norm
                continue
            blocks = SITES_PER_LAYER if config.adapter == "hypernetwork_shared" else 0
            found += (layers + blocks) * dim + _network((3 if blocks else 2) * dim, hidden, read)
            found += 2 * read * config.unique_hyper_net_layer_norm
        return found


def _network(inputs: int, hidden: int, outputs: int) -> int:
    return inputs * hidden + hidden + hidden * outputs + outputs
