"""What a training step and a generation cost, compared with stock T5 of which only the layer norms train.

    python benchmarks/step.py                  # the table in README.md
    python benchmarks/step.py --model t5-base --rounds 10
    python benchmarks/step.py --batching mixed # each row of a step of another task, drawn anew for each step

The floor, and `finetune, plain PyTorch`, are transformers' T5 in a loop of five lines: forward, our loss, backward,
clipping, AdamW. All others are the step of a run: DeepSpeed's engine, and the look at loss and gradient.

Every round times everything once, in turn, so that all see the same machine. A figure is the median, over the
rounds, of the ratio within a round, with its quartiles. T5 has the published size and random weights: the time does
not depend on them.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.adapters.model import HyperformerT5
from hyperformer.data.sampling.mixed import MixedSampler
from hyperformer.data.sampling.mixing import Mixing
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import VARIANTS, RunConfig
from hyperformer.training.checkpoints.parameter_shards import base_optimizer
from hyperformer.training.deepspeed_config.batch import make_batch as share_out
from hyperformer.training.engine import make_engine
from hyperformer.training.inputs import task_of_rows
from hyperformer.training.numerics.step_numbers import StepNumbers
from hyperformer.training.optimization.loss import batch_loss, token_loss
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import join
from hyperformer.training.train_state import TrainState

FLOOR, PLAIN_FINETUNE = "layer norms, plain PyTorch", "finetune, plain PyTorch"
TASK = "rte"

Work = Callable[[], None]


@dataclass
class Row:
    """A line of the table: a model that trains. `step` takes a batch; `optimizer` is torch's."""

    model: Any
    optimizer: torch.optim.Optimizer
    step: Callable[[dict[str, torch.Tensor]], None]


def configs(arguments: argparse.Namespace) -> dict[str, RunConfig]:
    """The variants, at the benchmark's batch size; the step of `finetune_single_task` is that of `finetune`."""
    common = {
        "model_name_or_path": arguments.model,
        "per_device_train_batch_size": arguments.batch_size,
        "output_dir": tempfile.gettempdir(),
        "precision": arguments.precision,
        "batching": arguments.batching,
    }
    found = {name: replace(load_config(name), **common) for name in VARIANTS}
    del found["finetune_single_task"]
    return {name: replace(c, tasks=[TASK]) if c.single_task else c for name, c in found.items()}


def tasks_of_steps(config: RunConfig) -> Iterator[str | list[str]]:
    """What each step trains: one task, or tasks drawn for its rows, each as often."""
    names, rows = config.data.tasks, config.training.per_device_train_batch_size
    if config.data.batching == "task":
        yield from itertools.repeat(TASK)
    sampler = MixedSampler(dict.fromkeys(names, rows), rows, mixing=Mixing("equal"), seed=0)
    while True:
        yield task_of_rows(sampler.next_batch().by_task(names))


def our_row(config: RunConfig, t5: T5Config, context: DistributedContext) -> Row:
    """A variant, trained as a run trains it."""
    torch.manual_seed(0)
    model, settings = build_model(config, t5=t5), config.training
    engine = make_engine(model, settings, share_out(settings, context.size), context)
    numbers, tasks = StepNumbers(engine, TrainState(), context, 0.0, lambda: None), tasks_of_steps(config)

    def step(batch: dict[str, torch.Tensor]) -> None:
        loss = batch_loss(engine, batch, next(tasks), settings.label_smoothing)
        engine.backward(loss)
        numbers.after_backward(loss)

    return Row(model, base_optimizer(engine), step)


def plain_row(t5: T5Config, config: RunConfig, device: torch.device, *, norms_only: bool) -> Row:
    """Transformers' own T5, trained without an engine."""
    torch.manual_seed(0)
    model, settings = T5ForConditionalGeneration(t5).to(device).train(), config.training
    if norms_only:
        model.requires_grad_(False)
        for module in model.modules():
            if isinstance(module, T5LayerNorm):
                module.requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0, fused=True)

    def step(batch: dict[str, torch.Tensor]) -> None:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        shifted = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        logits = model(**inputs, decoder_input_ids=shifted, use_cache=False).logits
        token_loss(logits, batch["labels"], settings.label_smoothing).backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return Row(model, optimizer, step)


def make_batch(
    arguments: argparse.Namespace, source_length: int, vocabulary: int, device: torch.device
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> torch.Tensor:
        return torch.randint(3, vocabulary, (arguments.batch_size, length), generator=generator).to(device)

    source = draw(source_length)
    return {
        "input_ids": source,
        "attention_mask": torch.ones_like(source),
        "labels": draw(arguments.target_length),
    }


def generation(model: Any, batch: dict[str, torch.Tensor], tokens: int) -> None:
    """Greedy, so many tokens for each row."""
    which = {"task": TASK} if isinstance(model, HyperformerT5) else {}
    model.eval()
    model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=False,
        min_new_tokens=tokens, max_new_tokens=tokens, **which,
    )  # fmt: skip
    model.train()


def seconds(work: Work, device: torch.device) -> float:
    """Seconds that `work` takes; on a CPU processor time, which other processes do not change."""
    if device.type == "cpu":
        started = time.process_time()
        work()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each, in rounds, after one that is not counted."""
    for work in works.values():
        work()
    taken = [{name: seconds(work, device) for name, work in works.items()} for _ in range(rounds)]
    return {name: [times[name] for times in taken] for name in works}


def ratio(times: list[float], base: list[float]) -> str:
    """The median over the rounds, and the quartiles: '1.04 (1.03-1.06)'."""
    ratios = [mine / other for mine, other in zip(times, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of optimizer state: the moments that AdamW keeps of the trained parameters."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in values if torch.is_tensor(value))


def main() -> None:
    arguments = parse()
    context = join()
    t5 = published_t5(arguments.model)
    if t5 is None:
        raise SystemExit(f"--model {arguments.model}: name a published T5, such as t5-small")
    if arguments.layers:
        t5.num_layers = t5.num_decoder_layers = arguments.layers
    ours = configs(arguments)
    rows = {FLOOR: plain_row(t5, ours["finetune"], context.device, norms_only=True)}
    rows |= {name: our_row(config, t5, context) for name, config in ours.items()}
    rows[PLAIN_FINETUNE] = plain_row(t5, ours["finetune"], context.device, norms_only=False)
    table: dict[str, dict[str, list[float]]] = {}
    for length in arguments.source_length:
        batch = make_batch(arguments, length, t5.vocab_size, context.device)
        works: dict[str, Work] = {name: partial(row.step, batch) for name, row in rows.items()}
        table[f"step, source {length}"] = measure(works, arguments.rounds, context.device)
    for count in sorted({arguments.batch_size, 1}, reverse=True):
        part = {name: tensor[:count] for name, tensor in batch.items()}
        works = {name: partial(generation, row.model, part, arguments.generate) for name, row in rows.items()}
        table[f"generation, batch {count}"] = measure(works, arguments.rounds, context.device)

    print(
        f"\n{arguments.model}, {t5.num_layers} layers, batch {arguments.batch_size} (batching={arguments.batching}), "
        f"target {arguments.target_length}, {arguments.generate} tokens generated, {context.device.type}, "
        f"{torch.get_num_threads()} threads, {arguments.rounds} rounds; to {FLOOR!r}: median (quartiles)"
    )
    print(
        f"{'':<28}" + "".join(f"{column:>22}" for column in table) + f"{'trained':>14}{'optimizer bytes':>18}"
    )
    for name, row in rows.items():
        trained = sum(p.numel() for p in row.model.parameters() if p.requires_grad)
        cells = "".join(f"{ratio(times[name], times[FLOOR]):>22}" for times in table.values())
        print(f"{name:<28}{cells}{trained:>14,}{optimizer_bytes(row.optimizer):>18,}")
    for column, times in table.items():
        seconds_of_floor = statistics.median(times[FLOOR])
        engine = ratio(times["finetune"], times[PLAIN_FINETUNE])
        print(f"{column}: floor {seconds_of_floor * 1e3:.0f} ms; finetune to {PLAIN_FINETUNE!r} {engine}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="t5-small")
    parser.add_argument(
        "--layers", type=int, help="blocks per stack, for a busy machine; default: the model's"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batching", default="task", choices=["task", "mixed"])
    parser.add_argument("--source-length", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--target-length", type=int, default=8)
    parser.add_argument("--generate", type=int, default=16, help="tokens to generate")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
