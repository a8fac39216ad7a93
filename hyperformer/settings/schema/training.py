"""Settings of training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hyperformer.settings.schema.field import (
    FRACTION,
    MINUTES,
    MINUTES_OR_NEVER,
    NOT_NEGATIVE,
    PATH,
    POINTS,
    POSITIVE,
    SIZE,
    setting,
)

# Under these, a step's learning rate does not depend on the number of steps.
CONSTANT_SCHEDULES = ("constant", "constant_w_warmup")

# Rows of the longest whose memory a batch of evaluation may take, where no number of rows is given.
EVAL_ROWS = 32


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
