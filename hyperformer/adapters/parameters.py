"""Parameter counts: how much of the model trains, by part, and the share per task as in the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from hyperformer.adapters.bases.pretrained import load_t5_config
from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.adapters.model import HyperformerT5
from hyperformer.settings.build import replace
from hyperformer.settings.schema import RunConfig


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters. Tied weights count once.

    Attributes:
        t5: of T5 alone.
        parts: part of the model -> (all, trained).
        tasks: number of tasks that share the model.
    """

    t5: int
    parts: dict[str, tuple[int, int]]
    tasks: int

    @property
    def total(self) -> int:
        return sum(all_ for all_, _ in self.parts.values())

    @property
    def trained(self) -> int:
        return sum(trained for _, trained in self.parts.values())

    @property
    def trained_percent_per_task(self) -> float:
        """Trained parameters, T5's layer norms included, over the tasks, in percent of T5 (Table 1)."""
        return 100.0 * self.trained / self.tasks / self.t5


def count_parameters(model: HyperformerT5) -> ParameterCount:
    """Count `model`'s parameters by `requires_grad`; works under ZeRO stage 3 and on the meta device."""
    norms = {p for m in model.modules() if isinstance(m, T5LayerNorm) for p in m.parameters(recurse=False)}
    parts: dict[str, list[int]] = {}
    t5 = 0
    for name, parameter in model.named_parameters():
        size = _size(parameter)
        plain = model.method.t5_name(name)
        if plain is not None:
            t5 += size
        part = model.method.part(name) if plain is None else _part(plain, parameter in norms)
        counts = parts.setdefault(part, [0, 0])
        counts[0] += size
        counts[1] += size * parameter.requires_grad
    return ParameterCount(
        t5, {part: (n, trained) for part, (n, trained) in parts.items()}, len(model.config.tasks or [1])
    )


def _size(parameter: nn.Parameter) -> int:
    # DeepSpeed keeps the full size of a partitioned parameter here.
    return getattr(parameter, "ds_numel", parameter.numel())


def _part(name: str, is_norm: bool) -> str:
    """The part of plain T5 that a parameter belongs to."""
    if is_norm:
        return "T5 layer norms"
    return "T5 embeddings" if name.startswith(("shared.", "lm_head.")) else f"T5 {name.split('.')[0]}"


def count_config(config: RunConfig) -> ParameterCount:
    """Count what a run would train, on the meta device: no weights are allocated or loaded.

    A config that trains its tasks one at a time is counted for one of them.
    """
    name = config.model.model_name_or_path
    t5 = published_t5(name) or load_t5_config(name)
    if config.single_task:
        config = replace(config, tasks=config.data.tasks[:1])
    with torch.device("meta"):
        return count_parameters(build_model(config, t5=t5))


def parameter_table(count: ParameterCount) -> str:
    """The table that ``hyperformer params`` prints."""
    rows = [(part, all_, trained) for part, (all_, trained) in count.parts.items()]
    rows.append(("total", count.total, count.trained))
    lines = [f"{'part':<24}{'parameters':>16}{'trained':>16}"]
    lines += [f"{part:<24}{all_:>16,}{trained:>16,}" for part, all_, trained in rows]
    lines.append(
        f"trained per task: {count.trained:,} / {count.tasks} = {count.trained / count.tasks:,.0f}, "
        f"{count.trained_percent_per_task:.2f}% of T5's {count.t5:,}"
    )
    return "\n".join(lines)
