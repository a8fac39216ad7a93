"""Every setting of a run: name, type, default, meaning. Imports no torch.

Settings are grouped in frozen dataclasses for the code that reads them, and
flat (one namespace) in files and on the command line, because that is how
people write them: ``{"tasks": ["rte"], "learning_rate": 3e-4}``, ``seed=2``.
:func:`make_config` is the only way from plain values to a :class:`RunConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hyperformer.settings.methods import METHODS

if TYPE_CHECKING:
    AdapterKind = str
else:
    AdapterKind = Literal[tuple(METHODS)]

# What a setting that names a file or folder can hold: a path, or also a name on the hub; OUTPUT is written.
PATH, PATH_OR_NAME, OUTPUT = "path", "path or name", "output"

# Settings that say the same: a run is given one of each pair.
EITHER_OR = (("max_steps", "num_train_epochs"), ("warmup_steps", "warmup_ratio"))
# Under these, a step's learning rate does not depend on the number of steps.
CONSTANT_SCHEDULES = ("constant", "constant_w_warmup")

# Rows of the longest whose memory a batch of evaluation may take, where no number of rows is given.
EVAL_ROWS = 32

VARIANTS = (
    "hyperformer++",
    "hyperformer++-stable",
    "hyperformer",
    "adapters_dagger",
    "adapters",
    "finetune",
    "finetune_single_task",
)


@dataclass(frozen=True)
class Bounds:
    """Numbers that a setting can have, and how an error says so."""

    hold: Callable[[float], bool]
    words: str


# More steps or rows than that nobody has time for, and no rate is larger.
MOST = 1_000_000_000
POSITIVE = Bounds(lambda value: 0 < value <= MOST, f"must be greater than 0, and at most {MOST:,}")
NOT_NEGATIVE = Bounds(lambda value: 0 <= value <= MOST, f"must not be negative, and at most {MOST:,}")
# Of what is in memory at once: rows, tokens, widths.
SIZE = Bounds(lambda value: 0 < value <= 1_000_000, "must be greater than 0, and at most 1,000,000")
POINTS = Bounds(lambda value: 0 <= value <= 100, "must be 0 to 100 points")
FRACTION = Bounds(lambda value: 0 <= value < 1, "must be at least 0 and below 1")
# Four times as long is a time that the system's clocks can hold.
MINUTES = Bounds(lambda value: 0 < value <= 10_000_000, "must be greater than 0, and at most 10,000,000")
MINUTES_OR_NEVER = Bounds(lambda value: 0 <= value <= 10_000_000, "must be 0 (never) to 10,000,000")
SEED = Bounds(lambda value: 0 <= value < 2**32, "must be at least 0 and below 2^32")


def setting(default: Any, help: str, *, hash: bool | None = None, **facts: Any) -> Any:
    """A dataclass field that carries all there is to say about a setting.

    Args:
        hash: False for a value that Python cannot hash.
        facts: attributes of :class:`hyperformer.settings.values.Setting`.
    """
    return field(default=default, hash=hash, metadata={"help": help, **facts})


@dataclass(frozen=True)
class ModelConfig:
    """Which T5, what its weights are at the start, and which of its own parameters train."""

    model_name_or_path: str = setting(
        "t5-base", "T5 on the hub, a local folder, or 'toy' (ships with us)", path=PATH_OR_NAME
    )
    tokenizer_name: str | None = setting(
        None, "tokenizer name or folder; default: the model's", path=PATH_OR_NAME
    )
    random_init: bool = setting(False, "do not load the weights: build from the model's config alone")
    init_from: str | None = setting(
        None,
        "folder of a finished run (or its adapter/): start from its trained weights, with a new optimizer",
        path=PATH,
    )
    init_tasks: Mapping[str, str | None] | None = setting(
        None,
        "init_from: which task of that run each task starts from, such as {scitail: mnli}; null: from new "
        "weights; default: the task of the same name",
        hash=False,
    )
    dropout: float | None = setting(None, "dropout rate; default: the model's own", bounds=FRACTION)
    attn_implementation: Literal["sdpa", "eager"] | None = setting(
        None,
        "how attention is computed, by transformers' names; they round differently; default: transformers'",
        answers=True,
    )
    freeze_model: bool = setting(False, "freeze all of T5 and the adapters")
    freeze_encoder: bool = setting(False, "freeze the encoder, its adapters included")
    freeze_embeds: bool = setting(False, "freeze the token embeddings")
    freeze_model_but_lm_head: bool = setting(False, "train the output layer only")
    freeze_model_but_task_embeddings: bool = setting(False, "train the task embeddings only")
    unfreeze_lm_head: bool = setting(False, "train the output layer (T5 ties it to the embeddings) too")
    unfreeze_layer_norms: bool = setting(False, "train T5's layer norms too")
    unfreeze_model: bool = setting(False, "train everything, whatever the settings above say")


@dataclass(frozen=True)
class AdapterConfig:
    """The tuning method and its options; :mod:`hyperformer.settings.methods` says which method uses which."""

    adapter: AdapterKind = setting(
        "none", "; ".join(f"{name}: {method.words}" for name, method in METHODS.items())
    )
    reduction_factor: int = setting(32, "T5's width divided by the adapter's bottleneck", bounds=SIZE)
    non_linearity: str = setting(
        "gelu_new", "activation between down and up projection (name in transformers)"
    )
    add_layer_norm_before_adapter: bool = setting(False, "layer norm on the adapter's input")
    add_layer_norm_after_adapter: bool = setting(
        True, "layer norm on the adapter's output, before the residual"
    )
    conditional_layer_norm: bool = setting(
        False,
        "hypernetwork_per_layer: generate the layer norms too (the shared ones always do)",
    )
    task_embedding_dim: int = setting(64, "width of the trained task embeddings", bounds=SIZE)
    projected_task_embedding_dim: int = setting(
        64, "width of the embedding that the generators read", bounds=SIZE
    )
    task_hidden_dim: int = setting(128, "hidden width of the network that projects embeddings", bounds=SIZE)
    train_task_embeddings: bool = setting(False, "project the task embedding by a network before its use")
    unique_hyper_net_layer_norm: bool = setting(True, "layer norm on the projected embedding (shared ones)")
    task_embedding_norm: bool = setting(
        False,
        "hypernetwork_per_layer: layer norm on the embedding that the generators read, as the shared ones have by "
        "unique_hyper_net_layer_norm (Ortiz et al. 2023)",
    )
    generator_init: Literal["reference", "near_identity"] = setting(
        "reference",
        "generators at the start; reference: the authors'; near_identity: the generators of up-projections are zero "
        "and those of down-projections small, so that T5's answers do not change (after Houlsby et al. 2019, "
        "section 3.6), and the networks that project embeddings keep their size (He et al. 2015); it needs "
        "add_layer_norm_after_adapter=false",
    )
    generator_scaling: Literal["none", "sqrt_width", "width"] = setting(
        "none",
        "what divides the embedding that the generators read: its width or the root of it, so that a learning rate "
        "moves generated weights alike at every width (Yang et al. 2022, table 3)",
    )
    parallel_feed_forward_adapter: bool = setting(
        False,
        "the feed-forward's adapter reads the feed-forward's input, and not its output (He et al. 2022, section 3.3)",
    )
    kronecker_terms: int = setting(
        4,
        "compacter: how many Kronecker products a projection is the sum of (n of the paper); it divides T5's width and "
        "the bottleneck",
        bounds=SIZE,
    )
    kronecker_rank: int = setting(1, "compacter: rank of each product's own factor", bounds=SIZE)
    adapters: tuple[str, ...] | None = setting(None, "adapters: a name per task; equal names share one")
    task_embeddings: tuple[str, ...] | None = setting(None, "a name per task; equal names share an embedding")
    lora_rank: int = setting(8, "rank of a matrix's change", bounds=SIZE)
    lora_alpha: int = setting(16, "the change is scaled by lora_alpha / lora_rank", bounds=SIZE)
    lora_dropout: float = setting(0.0, "dropout on what the change reads", bounds=FRACTION)
    vera_rank: int = setting(256, "rank of the shared random matrices", bounds=SIZE)
    target_modules: tuple[str, ...] | None = setting(
        None,
        "T5's matrices that are adapted, of q, k, v, o, wi (gated: wi_0, wi_1), wo; default: the paper's",
    )
    virtual_tokens: int = setting(20, "length of the prompt or prefix", bounds=SIZE)
    prefix_projection: bool = setting(False, "make the prefix by a trained network, as the paper does")
    prompt_hidden_dim: int | None = setting(
        None, "hidden width of the network that makes prompt or prefix; default: T5's width", bounds=SIZE
    )


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    tasks: tuple[str, ...] = setting((), "tasks to train and evaluate")
    task_file: str | None = setting(None, "YAML file with tasks of your own", path=PATH)
    data_source: Literal["hub", "folder", "toy"] = setting(
        "hub", "hub: Hugging Face; folder: data_dir; toy: built in"
    )
    data_dir: str | None = setting(
        None, "data_source=folder: holds <task>/<split>.jsonl, .json, .csv, .tsv or .parquet", path=PATH
    )
    cache_dir: str | None = setting(
        None, "folder for tokenised rows; default: ~/.cache/hyperformer", result=False, path=PATH
    )
    max_source_length: int = setting(128, "source tokens kept", bounds=SIZE)
    max_target_length: int = setting(128, "target tokens kept", bounds=SIZE)
    task_prefix: bool | None = setting(
        None, "start each source with the task's name; default: if the adapters do not know the task"
    )
    mixing: Literal["temperature", "proportional", "equal", "weights"] = setting(
        "temperature",
        "how often each task is drawn; temperature: ~ size^(1/temperature); proportional: ~ size; equal: alike; "
        "weights: ~ task_weights",
        several_tasks=True,
    )
    temperature: float = setting(
        10.0, "task sampling: probability ~ size^(1/temperature)", bounds=POSITIVE, several_tasks=True
    )
    task_weights: Mapping[str, float] | None = setting(
        None,
        "mixing=weights: the weight of each task, such as {mnli: 2, rte: 1}",
        hash=False,
        bounds=POSITIVE,
        several_tasks=True,
    )
    mixing_cap: int | Mapping[str, int] | None = setting(
        None,
        "mixing by temperature or proportional: rows that count at most as a task's size (all are trained on); a "
        "number for every task, or a map such as {mnli: 5000}",
        hash=False,
        bounds=POSITIVE,
        several_tasks=True,
    )
    batching: Literal["task", "mixed"] = setting(
        "task",
        "rows of a step; task: all of one task (the paper's); mixed: the task of each row is drawn by itself",
        several_tasks=True,
    )
    n_train: int | None = setting(None, "training rows per task, at most", bounds=POSITIVE)
    n_val: int | None = setting(None, "validation rows per task, at most", bounds=POSITIVE)
    n_test: int | None = setting(None, "test rows per task, at most", bounds=POSITIVE)
    reference_splits: bool = setting(False, "the authors' splits, with their overlap of train and validation")
    reference_sampler: bool = setting(False, "the authors' sampler: rows with replacement, seed always 0")
    group_by_length: bool = setting(
        False,
        "training: batches of rows of like length, so that less is padded; each row still once per pass",
    )


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained and evaluated."""

    max_steps: int = setting(65_536, "optimizer steps", bounds=POSITIVE)
    num_train_epochs: float | None = setting(
        None, "instead of max_steps: passes over the training rows of all tasks", bounds=POSITIVE
    )
    per_device_train_batch_size: int = setting(32, "rows per device and forward pass", bounds=SIZE)
    per_device_eval_batch_size: int | None = setting(
        None,
        "rows per device in evaluation, at most; default: 32, on a GPU as many as fit the memory of 32 of the longest",
        result=False,
        bounds=SIZE,
    )
    decode: Literal["generate", "constrained", "rank"] = setting(
        "generate",
        "answers in evaluation; generate: the model writes them (the authors'); constrained: it writes one of the "
        "task's labels; rank: the most probable of the task's labels. The last two are never invalid",
        answers=True,
    )
    gradient_accumulation_steps: int = setting(1, "forward passes per step", bounds=SIZE)
    learning_rate: float = setting(3e-4, "peak of the schedule", bounds=POSITIVE)
    generator_learning_rate: float | None = setting(
        None,
        "the same for the generators of a hypernetwork, whose step moves a weight by the rate times the width of what "
        "they read (Yang et al. 2022, table 3); default: learning_rate",
        bounds=POSITIVE,
    )
    lr_scheduler: Literal["linear", "cosine", "polynomial", "constant", "constant_w_warmup"] = setting(
        "linear", "schedule after the warm-up"
    )
    warmup_steps: int = setting(500, "steps of linear warm-up", bounds=NOT_NEGATIVE)
    warmup_ratio: float | None = setting(
        None, "instead of warmup_steps: the warm-up's share of all steps", bounds=FRACTION
    )
    weight_decay: float = setting(0.0, "AdamW; not on biases and layer norms", bounds=NOT_NEGATIVE)
    adam_beta1: float = setting(0.9, "AdamW", bounds=FRACTION)
    adam_beta2: float = setting(0.999, "AdamW", bounds=FRACTION)
    adam_epsilon: float = setting(1e-8, "AdamW", bounds=POSITIVE)
    reference_optimizer: bool = setting(
        False, "the authors' AdamW (transformers 3.5, torch 1.7) and their choice of what decays; slower"
    )
    max_grad_norm: float = setting(
        1.0, "gradients are clipped to this norm; 0: not clipped", bounds=NOT_NEGATIVE
    )
    label_smoothing: float = setting(0.1, "share of the target spread over the vocabulary", bounds=FRACTION)
    loss_reduction: Literal["mean", "sum"] = setting(
        "mean", "mean: per token of the global batch; sum: over tokens, mean over ranks (the authors')"
    )
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "number format of the engine", answers=True)
    tf32: bool = setting(
        True,
        "GPUs: float32 products in TF32 (10 bits of mantissa), as the authors' torch; no effect on a CPU",
        answers=True,
    )
    deterministic: bool = setting(
        False,
        "GPUs: only deterministic kernels, so that a resumed run is bit-identical; slower",
        answers=True,
    )
    zero_stage: Literal[0, 1, 2, 3] | None = setting(
        None, "DeepSpeed ZeRO stage; default: 0 in fp32, 1 in bf16 and fp16"
    )
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, slower", result=False)
    memory_check: bool | None = setting(
        None,
        "before the first step, run the longest rows once, so that too little memory shows at once; "
        "default: if there is a GPU",
        result=False,
    )
    deepspeed_config: str | None = setting(
        None, "your DeepSpeed JSON; the settings decide (docs/deepspeed.md)", path=PATH
    )
    eval_steps: int = setting(1_000, "steps between evaluations on validation", bounds=POSITIVE)
    early_stop: int | None = setting(
        None,
        "patience: training ends when so many evaluations in a row bring no better validation average",
        bounds=POSITIVE,
    )
    early_stop_min_delta: float = setting(
        0.0,
        "early_stop: points that the average must rise by to count as better; the best checkpoint is kept all the same",
        bounds=POINTS,
    )
    one_class_after: float = setting(
        0.5,
        "share of the steps after which the log says that a validation answered all rows of a task with one class; "
        "result.json (one_class) and the report name such runs",
        result=False,
        bounds=FRACTION,
    )
    save_steps: int = setting(1_000, "steps between checkpoints", result=False, bounds=POSITIVE)
    save_total_limit: int = setting(
        2,
        "checkpoints kept; an older one is deleted only after the newer was verified",
        result=False,
        bounds=POSITIVE,
    )
    save_in_background: bool = setting(
        False,
        "continue training while a checkpoint is written, from a copy in the host's memory",
        result=False,
    )
    hang_minutes: float = setting(
        30.0,
        "a run that does not move for so long ends itself; 0: never",
        result=False,
        bounds=MINUTES_OR_NEVER,
    )
    start_timeout_minutes: float = setting(
        240.0,
        "how long ranks wait for each other until the first step is done (downloads, tokenising, checksums)",
        result=False,
        bounds=MINUTES,
    )
    step_timeout_minutes: float | None = setting(
        None,
        "how long ranks wait for each other after that; default: 1.5 x hang_minutes (45 where that is 0), so that "
        "the rank that hangs ends first and prints its stacks",
        result=False,
        bounds=MINUTES,
    )
    logging_steps: int = setting(200, "steps between log lines", result=False, bounds=POSITIVE)
    do_eval: bool = setting(True, "evaluate on validation and keep the best checkpoint")
    do_test: bool = setting(True, "evaluate the kept checkpoint on test at the end")

    @property
    def rows_per_rank(self) -> int:
        """Training rows that a rank adds to each step, where the settings alone decide."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


@dataclass(frozen=True)
class RunConfig:
    """One training job, complete. Made by :func:`make_config`.

    Attributes:
        contents: setting -> hash of what the file or folder that it names held when the run was
            planned or started; None: that was never recorded.
        known_as: the run's signature where it cannot be computed: the run is of a version that did not
            hash contents, or the files cannot be read here any more.
    """

    variant: str = setting("custom", "name of the tuning method in tables")
    single_task: bool = setting(False, "several tasks are trained one at a time, each from the start")
    seed: int = setting(42, "of weights, data order and dropout", bounds=SEED)
    output_dir: str = setting("outputs", "folder of the run's files", result=False, path=OUTPUT)
    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    contents: Mapping[str, str] | None = field(default=None, hash=False)
    known_as: str | None = None

    @property
    def task_prefix(self) -> bool:
        """Whether sources start with the task's name: the adapters know the task, plain T5 must be told."""
        if self.data.task_prefix is None:
            return not METHODS[self.adapter.adapter].knows_task
        return self.data.task_prefix

    @property
    def validates(self) -> bool:
        """Whether validation during training picks the checkpoint to keep."""
        return self.training.do_eval and self.training.eval_steps > 0

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the run reads."""
        more = (("validation", self.validates), ("test", self.training.do_test))
        return ("train", *(split for split, is_read in more if is_read))
