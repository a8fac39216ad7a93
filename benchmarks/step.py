"""What adapters cost: a training step and a generation of each variant, compared with T5 with trained layer norms only.

    python benchmarks/step.py                  # the table in README.md
    python benchmarks/step.py --model t5-base --rounds 10

Every round times every variant once, in turn, so that all see the same machine. A
figure is the median, over the rounds, of the ratio within a round. T5 has the
published size and random weights: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import VARIANTS, RunConfig
from hyperformer.training.deepspeed_config.batch import make_batch as share_out
from hyperformer.training.engine import make_engine
from hyperformer.training.optimization import token_loss
from hyperformer.training.ranks.join import join

BASELINE = "layer norms"
TASK = "rte"


def configs(arguments: argparse.Namespace) -> dict[str, RunConfig]:
    """The baseline and the variants, at the benchmark's batch size."""
    common = {
        "model_name_or_path": arguments.model,
        "per_device_train_batch_size": arguments.batch_size,
        "output_dir": tempfile.gettempdir(),
        "precision": arguments.precision,
    }
    found = {name: replace(load_config(name), **common) for name in VARIANTS}
    found = {name: replace(c, tasks=[TASK]) if c.single_task else c for name, c in found.items()}
    baseline = replace(found["finetune"], freeze_model=True, unfreeze_layer_norms=True)
    return {BASELINE: baseline, **found}


def make_batch(
    arguments: argparse.Namespace, vocabulary: int, device: torch.device
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> torch.Tensor:
        return torch.randint(3, vocabulary, (arguments.batch_size, length), generator=generator).to(device)

    source = draw(arguments.source_length)
    return {
        "input_ids": source,
        "attention_mask": torch.ones_like(source),
        "labels": draw(arguments.target_length),
    }


def training_step(engine: Any, batch: dict[str, torch.Tensor], smoothing: float) -> Callable[[], None]:
    def step() -> None:
        logits = engine(**batch, task=TASK, use_cache=False).logits
        engine.backward(token_loss(logits, batch["labels"], smoothing))
        engine.step()

    return step


def generation(engine: Any, batch: dict[str, torch.Tensor], tokens: int) -> Callable[[], None]:
    def generate() -> None:
        engine.module.eval()
        engine.module.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            task=TASK,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
        )
        engine.module.train()

    return generate


def seconds(work: Callable[[], None], device: torch.device) -> float:
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


def ratios(
    works: dict[str, Callable[[], None]], rounds: int, device: torch.device
) -> tuple[dict[str, float], float]:
    """The median ratio of each to the baseline, and the baseline's median seconds."""
    for work in works.values():
        work()
    taken = [{name: seconds(work, device) for name, work in works.items()} for _ in range(rounds)]
    base = statistics.median(times[BASELINE] for times in taken)
    return {name: statistics.median(times[name] / times[BASELINE] for times in taken) for name in works}, base


def optimizer_bytes(engine: Any) -> int:
    """Bytes of optimizer state: the moments that AdamW keeps of the trained parameters."""
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="t5-small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--source-length", type=int, default=64)
    parser.add_argument("--target-length", type=int, default=8)
    parser.add_argument("--generate", type=int, default=16, help="tokens to generate")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()

    context = join()
    t5 = published_t5(arguments.model)
    if t5 is None:
        parser.error(f"--model {arguments.model}: name a published T5, such as t5-small")
    engines, smoothing = {}, {}
    for name, config in configs(arguments).items():
        torch.manual_seed(0)
        engines[name] = make_engine(
            build_model(config, t5=t5), config.training, share_out(config.training, context.size), context
        )
        smoothing[name] = config.training.label_smoothing
    batch = make_batch(arguments, t5.vocab_size, context.device)
    steps = {name: training_step(engine, batch, smoothing[name]) for name, engine in engines.items()}
    generations = {name: generation(engine, batch, arguments.generate) for name, engine in engines.items()}
    step_ratios, step_base = ratios(steps, arguments.rounds, context.device)
    generation_ratios, generation_base = ratios(generations, arguments.rounds, context.device)

    print(
        f"\n{arguments.model}, batch {arguments.batch_size}, source {arguments.source_length}, "
        f"target {arguments.target_length}, {context.device.type}, {torch.get_num_threads()} threads, "
        f"{arguments.rounds} rounds; baseline: step {step_base * 1e3:.1f} ms, "
        f"{arguments.generate} tokens {generation_base * 1e3:.1f} ms"
    )
    print(f"{'variant':<22}{'step':>8}{'generation':>12}{'trained':>14}{'optimizer bytes':>18}")
    for name, engine in engines.items():
        trained = sum(p.numel() for p in engine.module.parameters() if p.requires_grad)
        print(
            f"{name:<22}{step_ratios[name]:>8.3f}{generation_ratios[name]:>12.3f}"
            f"{trained:>14,}{optimizer_bytes(engine):>18,}"
        )


if __name__ == "__main__":
    main()
