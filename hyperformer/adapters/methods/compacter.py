"""`compacter`, `compacter++`: adapters whose weights are sums of Kronecker products (Karimi Mahabadi et al. 2021).

A projection is W = sum over i of A_i x (s_i t_i), i from 1 to n, x the Kronecker product. The factors A_i (n, n) are
shared by all projections of all layers; s_i (inputs / n, r) and t_i (r, outputs / n) are each projection's own.
`compacter++` has adapters after the feed-forward only. A task has factors of its own, so that it is trained as the
single task of the paper is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hyperformer.adapters.functional import BatchAdapters, Sites, split_sites
from hyperformer.adapters.methods.method import Sizes
from hyperformer.adapters.methods.task_adapters import PerTask
from hyperformer.adapters.modules import AdapterModule, Adapters, field_shapes
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import AdapterConfig

# Standard deviation of the shared factors at the start, as in the authors' configs.
_FACTOR_STD = 1e-4


class SharedFactors(AdapterModule):
    """The factors A_i of every task: (A, n, n, n)."""

    rows_are_tasks = True

    def __init__(self, rows: int, terms: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, terms, terms, terms))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight, std=_FACTOR_STD)

    def forward(self, row: int | BatchAdapters) -> Tensor:
        """Of one row, (n, n, n); of those of a batch, (T, n, n, n)."""
        return self.weight[row] if isinstance(row, int) else row.of(self.weight)


class KroneckerAdapters(AdapterModule):
    """What is each projection's own: down_left (A, N, n, D/n, r), down_right (A, N, n, r, K/n), biases; up_ alike."""

    rows_are_tasks = True

    def __init__(self, config: AdapterConfig, rows: int, sites: int, width: int) -> None:
        super().__init__()
        terms, rank = config.kronecker_terms, config.kronecker_rank
        for name, shape in field_shapes(config, width).items():
            if name.endswith("_bias"):
                self.register_parameter(name, nn.Parameter(torch.empty(rows, sites, *shape)))
                continue
            way, (outputs, inputs) = name.removesuffix("_weight"), shape
            for side, size in (("left", (inputs // terms, rank)), ("right", (rank, outputs // terms))):
                self.register_parameter(f"{way}_{side}", nn.Parameter(torch.empty(rows, sites, terms, *size)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("_bias"):
                init.zeros_(parameter)
            else:  # Glorot and Bengio 2010, of each factor by itself
                bound = (6 / (parameter.shape[-1] + parameter.shape[-2])) ** 0.5
                init.uniform_(parameter, -bound, bound)

    def forward(self, row: int | BatchAdapters, factors: Tensor) -> Sites:
        """The adapters of a row of weights at every site, or those of a batch, by the same rows' factors."""
        own: dict[str, Tensor] = {
            name: tensor[row] if isinstance(row, int) else row.of(tensor)
            for name, tensor in self.named_parameters(recurse=False)
        }
        found = {name: tensor for name, tensor in own.items() if name.endswith("_bias")}
        for way in ("down", "up"):
            found[f"{way}_weight"] = kronecker_sum(factors, own[f"{way}_left"] @ own[f"{way}_right"])
        return split_sites(found, None if isinstance(row, int) else row)


def kronecker_sum(factors: Tensor, own: Tensor) -> Tensor:
    """Sum over i of the Kronecker products A_i x B_i, transposed.

    Args:
        factors: (..., n, n, n); own: (..., N, n, inputs / n, outputs / n).

    Returns:
        (..., N, outputs, inputs).
    """
    product = torch.einsum("...iab,...sipq->...sbqap", factors, own)
    return product.flatten(-4, -3).flatten(-2, -1)


class CompacterAdapters(Adapters):
    """The adapters of both stacks, and the factors that they share."""

    def __init__(self, factors: SharedFactors, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared_factors = factors

    def of_rows(self, stack: str, index: int | BatchAdapters) -> Sites:
        return self.stacks[stack](index, self.shared_factors(index))


class Compacter(PerTask):
    """Both kinds; they differ in `sites_per_layer`."""

    generates = True

    def bank(self, model: Any, rows: int, sites: int) -> AdapterModule:
        config, width = model.config.adapter_config, model.config.d_model
        for name, size in (("bottleneck", width // config.reduction_factor), ("width", width)):
            if size % config.kronecker_terms:
                raise ConfigError(
                    f"kronecker_terms is {config.kronecker_terms}, which does not divide the {name} of {size} (T5 is "
                    f"{width} wide, reduction_factor {config.reduction_factor}): write a divisor of both"
                )
        return KroneckerAdapters(config, rows, sites, width)

    def adapters(self, model: Any, rows: tuple[str, ...], stacks: dict[str, AdapterModule]) -> Adapters:
        factors = SharedFactors(len(dict.fromkeys(rows)), model.config.adapter_config.kronecker_terms)
        return CompacterAdapters(factors, rows, stacks, feed_forward_only=self.sites_per_layer == 1)

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """Per task n^3, and at each site 2r(k + d) (section 4 of the paper) and the biases, k + d (its table 1)."""
        both = sizes.width // config.reduction_factor + sizes.width
        sites = self.sites_per_layer * sum(sizes.layers.values())
        return sizes.tasks * (config.kronecker_terms**3 + sites * (2 * config.kronecker_rank + 1) * both)
