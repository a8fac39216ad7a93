"""What settings know of the tuning methods: names, sources, options, contradictions. Imports no torch.

What a method adds to T5 and trains is in :mod:`hyperformer.adapters.methods`: one file per method or family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Fault = tuple[str, str]
"""A setting that contradicts another, and why."""


def _no_faults(_adapter: Any) -> Iterator[Fault]:
    return iter(())


@dataclass(frozen=True)
class MethodFacts:
    """A value of the setting `adapter`.

    Attributes:
        words: what it is, for help and model cards.
        source: paper.
        options: the settings that it uses, beside those that every run uses.
        task_rows: the setting that names, per task, the weights of that task; '': no weights are a task's own, so
            that the source must start with the task's name, and `init_tasks` means nothing.
        faults: what contradicts itself in an AdapterConfig of the method.
        extra: the package that makes it, an extra of ours (:mod:`hyperformer.settings.extras`); '': it is built in.
        targets: the matrices of T5 that it adapts, unless `target_modules` names others.
    """

    words: str
    source: str
    options: tuple[str, ...] = ()
    task_rows: str = ""
    faults: Callable[[Any], Iterator[Fault]] = _no_faults
    extra: str = ""
    targets: tuple[str, ...] = ()

    @property
    def knows_task(self) -> bool:
        """Whether a call of the model must name its task."""
        return bool(self.task_rows)

    @property
    def has_task_embeddings(self) -> bool:
        """Whether it learns an embedding of each task."""
        return self.task_rows == "task_embeddings"


def _hypernetwork_faults(adapter: Any) -> Iterator[Fault]:
    dim, projected = adapter.task_embedding_dim, adapter.projected_task_embedding_dim
    is_shared = adapter.adapter != "hypernetwork_per_layer"
    if is_shared and adapter.train_task_embeddings and dim != projected:
        yield (
            "train_task_embeddings",
            "a shared hypernetwork joins the projected task embedding with layer embeddings of "
            f"task_embedding_dim ({dim}), so projected_task_embedding_dim ({projected}) must be equal to it",
        )
    if adapter.generator_init != "reference" and adapter.add_layer_norm_after_adapter:
        yield (
            "generator_init",
            "add_layer_norm_after_adapter is true, and a layer norm makes the smallest output large: write "
            "add_layer_norm_after_adapter=false",
        )


_SITES = ("reduction_factor", "non_linearity", "parallel_feed_forward_adapter")
_BOTTLENECK = (*_SITES, "add_layer_norm_before_adapter", "add_layer_norm_after_adapter")
_PER_TASK = (*_BOTTLENECK, "adapters", "init_tasks")
_HYPERNETWORK = (
    *_BOTTLENECK, "conditional_layer_norm", "task_embedding_dim", "projected_task_embedding_dim", "task_hidden_dim",
    "train_task_embeddings", "unique_hyper_net_layer_norm", "generator_init", "generator_scaling",
    "generator_learning_rate", "task_embeddings", "init_tasks",
)  # fmt: skip
_PAPER = "Karimi Mahabadi, Ruder, Dehghani, Henderson, ACL 2021"


def _hypernetwork(words: str, *more: str) -> MethodFacts:
    return MethodFacts(words, _PAPER, (*_HYPERNETWORK, *more), "task_embeddings", _hypernetwork_faults)


def _compacter(words: str) -> MethodFacts:
    options = (*_SITES, "kronecker_terms", "kronecker_rank", "adapters", "init_tasks")
    return MethodFacts(words, "Karimi Mahabadi, Henderson, Ruder, NeurIPS 2021", options, "adapters")


# T5's matrices that can be adapted; a gated feed-forward has wi_0 and wi_1 instead of wi.
MATRICES = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")


def _peft_faults(adapter: Any) -> Iterator[Fault]:
    names = adapter.target_modules
    if names is not None and len(set(names)) != max(1, len(names)):
        yield "target_modules", "must name one matrix at least, and each once; leave it out for the paper's"
    for name in names or ():
        if name not in MATRICES:
            yield "target_modules", f"{name!r} is none of T5's matrices: {', '.join(MATRICES)}"


def _peft(words: str, source: str, options: tuple[str, ...], targets: tuple[str, ...] = ()) -> MethodFacts:
    more = ("target_modules", "adapters") if targets else ("virtual_tokens", "adapters")
    return MethodFacts(words, source, (*options, *more), "adapters", _peft_faults, "peft", targets)


_LORA = ("lora_rank", "lora_alpha", "lora_dropout")

METHODS = {
    "none": MethodFacts("T5 itself was trained; there are no adapters", "Raffel et al., JMLR 2020"),
    "task": MethodFacts("one adapter per task", "Houlsby et al., ICML 2019", _PER_TASK, "adapters"),
    "pfeiffer": MethodFacts(
        "one adapter per task, after the feed-forward only",
        "Pfeiffer et al., EACL 2021",
        _PER_TASK,
        "adapters",
    ),
    "compacter": _compacter("one adapter per task, its weights sums of Kronecker products"),
    "compacter++": _compacter("as compacter, after the feed-forward only"),
    "hyperdecoder": MethodFacts(
        "the decoder's adapters generated from the encoder's output, a set per row; the encoder's are the same for all",
        "Ivison, Peters, Findings of EMNLP 2022",
        (*_SITES, "task_embedding_dim", "task_hidden_dim"),
    ),
    "hypernetwork_per_layer": _hypernetwork(
        "adapters generated from task embeddings, by one hypernetwork per layer", "task_embedding_norm"
    ),
    "hypernetwork_per_block_type": _hypernetwork(
        "adapters generated from task and layer embeddings, by one hypernetwork per stack with heads for each block "
        "type"
    ),
    "hypernetwork_shared": _hypernetwork(
        "adapters generated from task, layer and position embeddings, by one hypernetwork per stack"
    ),
    "lora": _peft("LoRA: low-rank changes of T5's matrices", "Hu et al., ICLR 2022", _LORA, ("q", "v")),
    "dora": _peft("DoRA: LoRA with trained magnitudes", "Liu et al., ICML 2024", _LORA, ("q", "v")),
    "ia3": _peft(
        "(IA)3: factors of keys, values and the feed-forward",
        "Liu et al., NeurIPS 2022",
        (),
        ("k", "v", "wo"),
    ),
    "vera": _peft(
        "VeRA: LoRA with shared random matrices and trained vectors",
        "Kopiczko et al., ICLR 2024",
        ("vera_rank",),
        ("q", "v"),
    ),
    "prefix_tuning": _peft(
        "a trained prefix of the decoder's keys and values",
        "Li and Liang, ACL 2021",
        ("prefix_projection", "prompt_hidden_dim"),
    ),
    "prompt_tuning": _peft("trained embeddings in front of the source", "Lester et al., EMNLP 2021", ()),
    "p_tuning": _peft(
        "embeddings in front of the source, made by a trained network",
        "Liu et al., 2021, arXiv:2103.10385",
        ("prompt_hidden_dim",),
    ),
}
"""Every value of the setting `adapter`."""

METHOD_OPTIONS = frozenset(option for method in METHODS.values() for option in method.options)
"""The settings that only some methods use."""

TOLERANT = ("none", "task", "hypernetwork_per_layer", "hypernetwork_per_block_type", "hypernetwork_shared")
"""The methods of earlier versions, which accepted and recorded options that they do not use."""
