"""A run that has too little memory: what takes it, what would help, and what the next start does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hyperformer.errors import EvaluationOutOfMemory, HyperformerError, OutOfMemory
from hyperformer.run_files.recovery import Recovery, halve_evaluation, split_micro_batch
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training.memory.memory_use import explain, memory_use
from hyperformer.training.memory.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from hyperformer.training.loop import Trainer

# torch's message ends with advice of its own, which is followed already (expandable segments).
_TORCHS_ADVICE = " If reserved but unallocated memory"


@contextmanager
def explain_out_of_memory(trainer: Trainer, folder: RunFolder, recovery: Recovery) -> Iterator[None]:
    """In this block, an error for lack of memory says what takes it; the next start takes less at once.

    Args:
        recovery: what this attempt started with.

    Raises:
        OutOfMemory: instead of what torch raises.
    """
    try:
        yield
    except Exception as error:
        in_evaluation = isinstance(error, EvaluationOutOfMemory)
        if not in_evaluation and not is_out_of_memory(error):
            raise
        # The weights, too, count in an evaluation; what it takes beside them is no activation of training.
        text = "" if in_evaluation else f". {_explained(trainer)}"
        kind = EvaluationOutOfMemory if in_evaluation else OutOfMemory
        words = str(error).partition(_TORCHS_ADVICE)[0].rstrip(". ") or type(error).__name__
        raise kind(f"{words}; {_next_start(trainer, folder, recovery, in_evaluation)}{text}") from error


def _next_start(trainer: Trainer, folder: RunFolder, recovery: Recovery, in_evaluation: bool) -> str:
    """Have the next start take fewer rows per forward; says so, or why it cannot."""
    try:
        if in_evaluation:
            done = halve_evaluation(folder, trainer.limit.rows)
        else:
            done = split_micro_batch(folder, recovery.micro_batch_parts)
    except HyperformerError as impossible:
        return str(impossible)
    return f"the next start of the same command resumes with less at once ({done})"


def _explained(trainer: Trainer) -> str:
    splits = trainer.data.train.values()
    lengths = (
        max(int(split.source_ids.lengths().max()) for split in splits),
        max(int(split.target_ids.lengths().max()) for split in splits),
    )
    use = memory_use(trainer.engine, trainer.context.size)
    return explain(use, trainer.config.training, trainer.batch, lengths)
