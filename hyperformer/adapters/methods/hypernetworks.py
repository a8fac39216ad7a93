"""The paper's methods: hypernetworks that generate the adapters from task embeddings (sections 2.3 and 2.4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
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
    SmallLinear,
    distinct,
    field_shapes,
    norm_names,
)  # fmt: skip
from hyperformer.settings.schema import AdapterConfig

# generator_init -> the same of a generator's weights, by what it generates; INIT_STD if it is not here.
# 0.05 is measured: with 0.2, runs learn less and later.
_GENERATOR_STD = {
    "reference": {},
    "near_identity": {"down_weight": 0.05 * INIT_STD, "up_weight": 0.0, "up_bias": 0.0},
}
# The norm on projected embeddings; the adapters' own norms have torch's default.
EMBEDDING_NORM_EPSILON = 1e-6


class Projector(nn.Module):
    """Embedding -> ReLU network -> projected embedding (paper, section 2.3).

    With generator_init=near_identity its outputs are as large as its inputs (He et al. 2015). With small weights they
    are so small that after a few steps of Adam the biases are larger: tasks and layers then read the same embedding.
    """

    def __init__(self, inputs: int, config: AdapterConfig) -> None:
        super().__init__()
        hidden, outputs = config.task_hidden_dim, config.projected_task_embedding_dim
        is_small = config.generator_init == "reference"
        self.hidden = SmallLinear(inputs, hidden, INIT_STD if is_small else math.sqrt(1 / inputs))
        self.output = SmallLinear(hidden, outputs, INIT_STD if is_small else math.sqrt(2 / hidden))

    def forward(self, embedding: Tensor) -> Tensor:
        return self.output(torch.relu(self.hidden(embedding)))


class TaskEmbeddings(AdapterModule):
    """Trained task embeddings, (E, task_embedding_dim), projected by a network if the setting says so."""

    rows_are_tasks = True

    def __init__(self, config: AdapterConfig, embeddings: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embeddings, config.task_embedding_dim))
        self.projector: Projector | None = None
        if config.train_task_embeddings:
            self.projector = Projector(config.task_embedding_dim, config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)

    def forward(self, index: int | BatchAdapters | None) -> Tensor:
        """The embedding number `index`, (dim,); those of a batch, (T, dim); or all (None), (E, dim)."""
        embedding = index.of(self.weight) if isinstance(index, BatchAdapters) else self.weight
        embedding = embedding[index] if isinstance(index, int) else embedding
        return embedding if self.projector is None else self.projector(embedding)


class Hypernetwork(AdapterModule):
    """Generates the adapters of all sites of a stack from task embeddings.

    The three kinds differ in what shares a generator. Each head is one linear map, from an
    embedding to a tensor of as many sites as the table says:

    ==========================  ======================================  =====
    kind                        embedding read by the heads             sites
    ==========================  ======================================  =====
    hypernetwork_per_layer      task                                    N
    hypernetwork_per_block_type projected (task, layer)                 2
    hypernetwork_shared         projected (task, layer, block type)     1
    ==========================  ======================================  =====

    The first is the paper's HyperFormer (section 2.3), the last HyperFormer++
    (section 2.4); the middle one is `unique_hyper_net` of the authors' code.
    """

    def __init__(self, config: AdapterConfig, layers: int, width: int) -> None:
        super().__init__()
        self.layers, self.sites = layers, layers * SITES_PER_LAYER
        self.kind = config.adapter
        self.layer_embeddings: nn.Parameter | None = None
        self.block_embeddings: nn.Parameter | None = None
        self.projector: Projector | None = None
        self.embedding_norm: nn.LayerNorm | None = None
        dim = config.task_embedding_dim
        if self.kind == "hypernetwork_per_layer":
            heads = self.sites
            read = config.projected_task_embedding_dim if config.train_task_embeddings else dim
            has_norm = config.task_embedding_norm
        else:
            parts = 2
            self.layer_embeddings = nn.Parameter(torch.empty(layers, dim))
            if self.kind == "hypernetwork_shared":
                parts = 3
                self.block_embeddings = nn.Parameter(torch.empty(SITES_PER_LAYER, dim))
            heads = 1 if parts == 3 else SITES_PER_LAYER
            read = config.projected_task_embedding_dim
            self.projector = Projector(parts * dim, config)
            has_norm = config.unique_hyper_net_layer_norm
        if has_norm:
            self.embedding_norm = nn.LayerNorm(read, eps=EMBEDDING_NORM_EPSILON)
        self.divisor = {"none": 1.0, "sqrt_width": math.sqrt(read), "width": float(read)}[
            config.generator_scaling
        ]
        self.shapes = field_shapes(config, width)
        names = norm_names(config)
        self.norms: SiteNorms | None = None
        if self.kind == "hypernetwork_per_layer" and not config.conditional_layer_norm:
            self.norms = SiteNorms(names, self.sites, width)
        else:
            self.shapes |= {f"{name}_{part}": (width,) for name in names for part in ("weight", "bias")}
        std = _GENERATOR_STD[config.generator_init]
        self.heads = nn.ModuleDict(
            {
                name: SmallLinear(read, heads * torch.Size(shape).numel(), std.get(name, INIT_STD))
                for name, shape in self.shapes.items()
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for embeddings in (self.layer_embeddings, self.block_embeddings):
            if embeddings is not None:
                init.normal_(embeddings)

    def site_embeddings(self, task: Tensor) -> Tensor:
        """Task embeddings (..., dim) -> what the heads read, (..., groups, read)."""
        read = self._joined(task)
        read = read if self.embedding_norm is None else self.embedding_norm(read)
        return read if self.divisor == 1.0 else read / self.divisor

    def _joined(self, task: Tensor) -> Tensor:
        """The task embedding, joined with those of layers and blocks where the generators are shared by them."""
        if self.projector is None or self.layer_embeddings is None:
            return task.unsqueeze(-2)
        parts = [task.unsqueeze(-2).unsqueeze(-2), self.layer_embeddings.unsqueeze(1)]
        if self.block_embeddings is not None:
            parts.append(self.block_embeddings)
        blocks = 1 if self.block_embeddings is None else SITES_PER_LAYER
        shape = (*task.shape[:-1], self.layers, blocks)
        joined = torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], dim=-1)
        return self.projector(joined.flatten(-3, -2))

    def forward(self, task: Tensor, batch: BatchAdapters | None) -> Sites:
        """Adapters at every site for one task embedding (dim,); or for those of a batch, (T, dim)."""
        read = self.site_embeddings(task)
        leading = task.shape[:-1]
        tensors = {
            name: self.heads[name](read).view(*leading, self.sites, *shape)
            for name, shape in self.shapes.items()
        }
        if self.norms is not None:
            tensors |= self.norms(leading[0] if leading else None)
        return split_sites(tensors, batch)


class Hypernetworks(Method):
    """The three kinds; the table in :class:`Hypernetwork` says how they differ."""

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


def generator_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The weights and biases of all heads, which generate the adapters."""
    heads = (module.heads for module in model.modules() if isinstance(module, Hypernetwork))
    return {parameter for found in heads for parameter in found.parameters()}
