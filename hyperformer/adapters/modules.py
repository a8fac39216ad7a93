"""What holds or generates the adapters' weights: a bank with an adapter per task, or a hypernetwork.

Both answer the same call: given one task, or those of the rows, they return the adapters of all
sites of a stack at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hyperformer.adapters.functional import SITES_PER_LAYER, BatchAdapters, Sites, split_sites, with_gaps
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import AdapterConfig

# Standard deviation of every weight at the start (Houlsby et al. 2019, section 3.6); biases start at zero.
INIT_STD = 1e-2
# generator_init -> the same of a generator's weights, by what it generates; INIT_STD if it is not here.
# 0.05 is measured: with 0.2, runs learn less and later.
_GENERATOR_STD = {
    "reference": {},
    "near_identity": {"down_weight": 0.05 * INIT_STD, "up_weight": 0.0, "up_bias": 0.0},
}
# The norm on projected embeddings; the adapters' own norms have torch's default.
EMBEDDING_NORM_EPSILON = 1e-6
# From so many tokens per task on, a CPU is quicker with a product per task than with one per row in a batched call.
_TOKENS_PER_GROUP = 48


def distinct(names: tuple[str, ...]) -> list[str]:
    """The different names, in order of first appearance."""
    return list(dict.fromkeys(names))


def field_shapes(config: AdapterConfig, width: int) -> dict[str, tuple[int, ...]]:
    """Shape of each adapter tensor at one site, the layer norms apart.

    Raises:
        ConfigError: the reduction factor leaves no bottleneck.
    """
    bottleneck = width // config.reduction_factor
    if bottleneck < 1:
        raise ConfigError(
            f"reduction_factor is {config.reduction_factor}, but T5 is only {width} wide: "
            f"write at most {width}"
        )
    return {
        "down_weight": (bottleneck, width),
        "down_bias": (bottleneck,),
        "up_weight": (width, bottleneck),
        "up_bias": (width,),
    }


def norm_names(config: AdapterConfig) -> list[str]:
    """Which layer norms the adapters have: 'pre_norm' and/or 'post_norm'."""
    wanted = {
        "pre_norm": config.add_layer_norm_before_adapter,
        "post_norm": config.add_layer_norm_after_adapter,
    }
    return [name for name, there in wanted.items() if there]


class AdapterModule(nn.Module):
    """Base of our modules. T5's initialisation calls `reset_parameters` of these, and its own rule for others."""

    rows_are_tasks = False
    """Whether the first dimension of its own parameters counts tasks."""

    def reset_parameters(self) -> None:
        raise NotImplementedError


class SmallLinear(nn.Linear, AdapterModule):
    """A linear layer that starts small, as every one in and around the authors' adapters does, or as `std` says."""

    def __init__(self, inputs: int, outputs: int, std: float = INIT_STD) -> None:
        self.std = std  # nn.Linear's constructor calls reset_parameters
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        init.normal_(self.weight, std=self.std)
        init.zeros_(self.bias)


class SiteNorms(AdapterModule):
    """Plain layer norms, one per site, shared by the tasks: parameters (N, D)."""

    def __init__(self, names: list[str], sites: int, width: int) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.register_parameter(f"{name}_weight", nn.Parameter(torch.empty(sites, width)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.empty(sites, width)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            (init.ones_ if name.endswith("_weight") else init.zeros_)(parameter)

    def forward(self, tasks: int | None) -> dict[str, Tensor]:
        """All norms; with `tasks`, repeated for that many tasks."""
        found = dict(self.named_parameters(recurse=False))
        if tasks is None:
            return dict(found)
        return {name: tensor.expand(tasks, *tensor.shape) for name, tensor in found.items()}


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


class Adapters(nn.Module):
    """All adapters of a T5: those of the encoder and the decoder, and the task embeddings they share.

    Args:
        rows: the name of each task's row, in the order of `task_ids`; tasks may share one.
        stacks: what makes the adapters of the 'encoder' and of the 'decoder'.
        task_embeddings: what `stacks` read; None: they take the number of a row.
        feed_forward_only: the stacks have no adapters after self-attention.
    """

    from_task: tuple[str, ...] = ("encoder", "decoder")
    """The stacks whose adapters depend on the task alone, so that they are made before T5 runs."""

    def __init__(
        self,
        rows: tuple[str, ...],
        stacks: dict[str, AdapterModule],
        task_embeddings: TaskEmbeddings | None = None,
        feed_forward_only: bool = False,
    ) -> None:
        super().__init__()
        self.feed_forward_only = feed_forward_only
        self.names = distinct(rows)
        self.index = [self.names.index(name) for name in rows]
        self.task_embeddings = task_embeddings
        self.stacks = nn.ModuleDict(stacks)

    def forward(self, stack: str, task: int | Tensor, inputs: Tensor | None = None) -> Sites:
        """The adapters of 'encoder' or 'decoder' for task number `task`; or one per row, (B,).

        Args:
            inputs: what the stack reads, (B, S, ...), if that is known.
        """
        row = self.index[task] if isinstance(task, int) else self._of_batch(task, inputs)
        sites = self.of_rows(stack, row)
        return with_gaps(sites) if self.feed_forward_only else sites

    def of_rows(self, stack: str, index: int | BatchAdapters) -> Sites:
        """The adapters of one row of weights, or of those that the rows of a batch use."""
        if self.task_embeddings is None:
            return self.stacks[stack](index)
        embeddings = self.task_embeddings(index)
        return self.stacks[stack](embeddings, None if isinstance(index, int) else index)

    def _of_batch(self, task: Tensor, inputs: Tensor | None) -> BatchAdapters:
        """What the rows of a batch use; in training, so that it is computed quickest."""
        index = torch.tensor(self.index, device=task.device)[task]
        if not self.training or task.device.type != "cpu" or torch.compiler.is_compiling():
            # Which are used would have to be read from the device; a graph has one shape.
            return BatchAdapters(None, index)
        used, rows, sizes = index.unique(return_inverse=True, return_counts=True)
        is_grouped = bool((rows.diff() >= 0).all())
        tokens = len(rows) if inputs is None else inputs.shape[:2].numel()
        is_quicker = tokens >= _TOKENS_PER_GROUP * len(used)
        own = sizes.tolist() if is_grouped and is_quicker else None
        return BatchAdapters(used.tolist(), rows.tolist(), own)


def generator_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The weights and biases of all heads, which generate the adapters."""
    heads = (module.heads for module in model.modules() if isinstance(module, Hypernetwork))
    return {parameter for found in heads for parameter in found.parameters()}


def task_row_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters whose rows belong to different tasks; the authors have a parameter per row."""
    return {
        parameter
        for module in model.modules()
        if isinstance(module, AdapterModule) and module.rows_are_tasks
        for parameter in module.parameters(recurse=False)
    }
