"""What the methods build their adapters from, and all adapters of a T5.

What holds or generates the weights of a stack (in :mod:`hyperformer.adapters.methods`) answers one call: given one
task, or those of the rows, it returns the adapters of all sites of the stack at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hyperformer.adapters.functional import BatchAdapters, Sites, with_gaps
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import AdapterConfig

# Standard deviation of every weight at the start (Houlsby et al. 2019, section 3.6); biases start at zero.
INIT_STD = 1e-2
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
        task_embeddings: nn.Module | None = None,
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


def task_row_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters whose rows belong to different tasks; the authors have a parameter per row."""
    return {
        parameter
        for module in model.modules()
        if isinstance(module, AdapterModule) and module.rows_are_tasks
        for parameter in module.parameters(recurse=False)
    }
