"""What it brings that rows of like length share a batch, and labels their prefixes: rows per second on real rows.

    python benchmarks/lengths.py train --data glue --tokenizer t5-small
    python benchmarks/lengths.py evaluate --data glue --tokenizer t5-small --tasks mrpc --rows 192
    python benchmarks/lengths.py rank --data glue --tokenizer t5-small --tasks stsb --rows 8

`--data` holds <task>/<split>.jsonl. The T5 has the published size and random weights. Each round times every way once,
in turn, by processor time (on a CPU); a figure is the median, over the rounds, of the ratio within a round, with its
quartiles. All ways draw the same tasks in the same order.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from unittest import mock

import numpy as np
from step import measure, ratio

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.answers.answers import Answer
from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.sampling.by_length import packed_batches
from hyperformer.data.sampling.drawn import Drawn
from hyperformer.data.tasks import Task, get_task
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import RunConfig
from hyperformer.training.decoding import rank_classification
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.inputs import RunData, load_run_data, make_sampler, task_of_rows
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import join
from hyperformer.training.step_meter import StepMeter

GLUE = ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]
BATCHES = 2_000
"""Batches whose padding is counted."""


def load(arguments: argparse.Namespace, context: DistributedContext) -> tuple[RunConfig, RunData]:
    """The run, and its rows; what is tokenised is kept in a folder for the next call."""
    config = replace(
        load_config("hyperformer++"),
        model_name_or_path=arguments.model, tokenizer_name=arguments.tokenizer, tasks=arguments.tasks,
        data_source="folder", data_dir=arguments.data, per_device_train_batch_size=arguments.batch_size,
        output_dir=tempfile.gettempdir(), do_eval=False,
        do_test=arguments.what != "train",
    )  # fmt: skip
    tasks = {name: get_task(name) for name in arguments.tasks}
    return config, load_run_data(
        config, tasks, load_tokenizer(config.model, published_t5(arguments.model)), context
    )


def train(arguments: argparse.Namespace, context: DistributedContext) -> dict[str, Callable[[], None]]:
    """Steps on batches of random rows, and on batches of like length, of one engine."""
    config, data = load(arguments, context)
    settings = config.training
    batch = make_batch(settings, context.size)
    engine = make_engine(build_model(config, t5=published_t5(arguments.model)), settings, batch, context)

    def batches(is_grouped: bool) -> Iterator[Drawn]:
        sampler = make_sampler(replace(config, group_by_length=is_grouped), data, batch)
        while True:
            yield sampler.next_batch()

    def step(source: Iterator[Drawn]) -> None:
        for drawn in islice(source, arguments.steps):
            rows = drawn.by_task(data.train)
            made = data.training_batch(rows, context.device)
            loss = batch_loss(engine, made, task_of_rows(rows), settings.label_smoothing)
            engine.backward(loss)
            engine.step()

    ways = {"random rows": False, "like length": True}
    for name, is_grouped in ways.items():
        print(f"{name}: {padding_share(data, batches(is_grouped)):.1%} of {BATCHES} batches is padding")
    return {name: partial(step, batches(is_grouped)) for name, is_grouped in ways.items()}


def padding_share(data: RunData, batches: Iterator[Drawn]) -> float:
    meter = StepMeter()
    for drawn in islice(batches, BATCHES):
        for lengths in data.lengths(drawn):
            meter.count(lengths[None])
    return meter.values()["padding_share"]


class RandomRows(Evaluator):
    """The batches of an evaluation in the rows' own order."""

    def batches(self, task: Task, split: TokenizedSplit) -> list[np.ndarray]:
        size = self.batch_size or len(split)
        return [np.arange(start, min(start + size, len(split)))[None] for start in range(0, len(split), size)]


class ByTokens(Evaluator):
    """The batches of a GPU on any device; 18 as for mrpc and T5's vocabulary."""

    def batches(self, task: Task, split: TokenizedSplit) -> list[np.ndarray]:
        return packed_batches(split.source_ids.lengths(), 1, None, 18)


class LabelsAlone(Evaluator):
    """Each label has a forward of the decoder to itself."""

    def answers(self, task: Task, split: TokenizedSplit) -> list[Answer]:
        with mock.patch.object(rank_classification, "TARGET_TOKENS", 0):
            return super().answers(task, split)


def evaluate(arguments: argparse.Namespace, context: DistributedContext) -> dict[str, Callable[[], None]]:
    """Evaluations of some rows of each task; says how many answers of a decoding differ from the first way's."""
    config, data = load(arguments, context)
    model, tokenizer = (
        build_model(config, t5=published_t5(arguments.model)).to(context.device),
        data.tokenizer,
    )
    splits = {name: rows.subset(range(min(arguments.rows, len(rows)))) for name, rows in data.test.items()}
    rank = Decoding("rank")
    ways = (
        {
            "rank, a label at a time": LabelsAlone(model, tokenizer, context, 32, rank),
            "rank, a tree of labels": Evaluator(model, tokenizer, context, 32, rank),
        }
        if arguments.what == "rank"
        else {
            "own order, 32 rows": RandomRows(model, tokenizer, context, 32),
            "sorted, 32 rows": Evaluator(model, tokenizer, context, 32),
            "sorted, by tokens": ByTokens(model, tokenizer, context, None),
            "sorted, constrained": Evaluator(model, tokenizer, context, 32, Decoding("constrained")),
            "sorted, rank": Evaluator(model, tokenizer, context, 32, rank),
        }
    )
    plain: dict[str, list[str]] = {}

    def answer(name: str, evaluator: Evaluator) -> None:
        for task, rows in splits.items():
            found = [one.text for one in evaluator.answers(data.tasks[task], rows)]
            expected = plain.setdefault(f"{task} {evaluator.decoding.method}", found)
            differ = sum(one != other for one, other in zip(found, expected, strict=True))
            if differ:
                print(f"{name}: {differ} of {len(found)} answers to {task} differ")

    return {name: partial(answer, name, evaluator) for name, evaluator in ways.items()}


def main() -> None:
    arguments = parse()
    make = train if arguments.what == "train" else evaluate
    works = make(arguments, join())
    times = measure(works, arguments.rounds, join().device)
    base = times[next(iter(times))]
    for name, taken in times.items():
        print(f"{name}: rows per second {ratio(base, taken)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "evaluate", "rank"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", default="t5-small")
    parser.add_argument("--model", default="t5-small")
    parser.add_argument("--tasks", nargs="+", default=GLUE)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rows", type=int, default=192, help="of each task in an evaluation")
    parser.add_argument("--steps", type=int, default=16, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
