"""What a tuning method is: the interface that a file of this folder fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hyperformer.adapters.modules import Adapters
from hyperformer.settings.schema import AdapterConfig

# Where a method that adds modules beside T5's own keeps their parameters.
ADDED = "adapters."


def depths(model: Any) -> dict[str, int]:
    """The number of blocks of a T5's 'encoder' and 'decoder'."""
    return {stack: len(getattr(model, stack).block) for stack in ("encoder", "decoder")}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a T5 and of a run that parameter counts depend on.

    Attributes:
        width: T5's d_model.
        layers: blocks of the 'encoder' and of the 'decoder'.
        tasks: number of tasks; of tasks that share weights, one.
        inner: width of all attention heads together; feed_forward: of the feed-forward's hidden layer.
    """

    width: int
    layers: dict[str, int]
    tasks: int
    inner: int = 0
    feed_forward: int = 0


class Method:
    """A way to tune T5, as every other part of the package sees it. It has no state.

    A method either adds modules beside T5's own (:meth:`attach`, with hooks at T5's sites), or changes T5's own
    modules once their weights are loaded (:meth:`wrap`), or neither.
    """

    trains_t5 = False
    """Whether all of T5 trains, unless the `freeze_*` settings say otherwise."""

    generates = False
    """Whether the weights of several sites come from one graph, such as a hypernetwork's."""

    packs_targets = True
    """Whether the decoder can read several targets at once, told apart by the position bias of its self-attention."""

    static: str | None = None
    """The method that computes the same for one task with weights of its own; None: there is none."""

    def attach(self, model: Any) -> Adapters | None:
        """Add modules to a T5 under construction, and hook them to it.

        Args:
            model: a HyperformerT5 with random weights; `config.adapter_config` and `config.tasks` are set.

        Returns:
            What becomes `model.adapters`.

        Raises:
            ConfigError: the method does not fit this T5.
        """
        return None

    def wrap(self, model: Any) -> None:
        """Change the modules of a T5 that has its weights.

        Raises:
            ConfigError: the method does not fit this T5.
        """

    def t5_name(self, name: str) -> str | None:
        """The name that a parameter of the model has in plain T5; None: the method added it."""
        return None if name.startswith(ADDED) else name

    def select(self, model: Any, task: int | Tensor) -> None:
        """Make the modules that :meth:`wrap` changed compute for a task, or for the task of each row (B,)."""

    def part(self, name: str) -> str:
        """The part of the model that a parameter which the method adds belongs to, in tables of counts."""
        _, part, stack, *_ = name.split(".")
        return f"adapters of the {stack}" if part == "stacks" else part.replace("_", " ")

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """How many parameters the method adds to T5, by the formula of its paper."""
        return 0

    def encoder_modules(self, model: Any) -> Sequence[nn.Module]:
        """The modules that the method adds for the encoder: `freeze_encoder` freezes them."""
        return () if model.adapters is None else (model.adapters.stacks["encoder"],)
