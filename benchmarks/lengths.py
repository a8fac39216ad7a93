"""What it brings that rows of like length share a batch: training on real rows, in rows per second.

    python benchmarks/lengths.py train --data glue --tokenizer t5-small

`--data` holds <task>/<split>.jsonl. The T5 has the published size and random weights. Each round times every way once,
in turn, by processor time (on a CPU); a figure is the median, over the rounds, of the ratio within a round, with its
quartiles. All ways draw the same tasks in the same order.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from step import measure, ratio

from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model, load_tokenizer
from hyperformer.data.tasks import get_task
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import RunConfig
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.inputs import RunData, load_run_data, make_sampler
from hyperformer.training.optimization import batch_loss
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
        output_dir=tempfile.gettempdir(), do_eval=arguments.what == "evaluate", do_test=False,
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

    def batches(is_grouped: bool) -> Iterator[tuple[str, Any]]:
        sampler = make_sampler(replace(config, group_by_length=is_grouped), data, batch)
        while True:
            yield sampler.next_batch()

    def step(source: Iterator[tuple[str, Any]]) -> None:
        for task, rows in (next(source) for _ in range(arguments.steps)):
            loss = batch_loss(
                engine, data.training_batch(task, rows, context.device), task, settings.label_smoothing
            )
            engine.backward(loss)
            engine.step()

    ways = {"random rows": False, "like length": True}
    for name, is_grouped in ways.items():
        print(f"{name}: {padding_share(data, batches(is_grouped)):.1%} of {BATCHES} batches is padding")
    return {name: partial(step, batches(is_grouped)) for name, is_grouped in ways.items()}


def padding_share(data: RunData, batches: Iterator[tuple[str, Any]]) -> float:
    meter = StepMeter()
    for task, rows in (next(batches) for _ in range(BATCHES)):
        for ids in (data.train[task].source_ids, data.train[task].target_ids):
            meter.count(ids.lengths(rows).reshape(1, -1))
    return meter.values()["padding_share"]


def main() -> None:
    arguments = parse()
    works = train(arguments, join())
    times = measure(works, arguments.rounds, join().device)
    base = times[next(iter(times))]
    for name, taken in times.items():
        print(f"{name}: rows per second {ratio(base, taken)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", default="t5-small")
    parser.add_argument("--model", default="t5-small")
    parser.add_argument("--tasks", nargs="+", default=GLUE)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
