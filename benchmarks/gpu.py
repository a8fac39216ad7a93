"""All that needs a GPU, in at most 8 minutes: speed and memory of the variants, and what no CPU can show.

    python benchmarks/gpu.py                    # writes gpu.json and RESULTS.md beside this file
    python benchmarks/gpu.py --small            # tiny shapes, for a CPU: shows that the script works
    python benchmarks/gpu.py --output DIR --minutes 6

Each part runs in a process of its own. A part that fails, or for which no time is left, says
"not measured: why", and the others go on. T5 has the shape of T5-base and random weights: speed and
memory do not depend on them. The checks train the toy tasks.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FROZEN, FULL = "layer norms", "finetune"
TASK = "rte"
# Dense FLOP/s of tensor cores, (bf16, TF32), from NVIDIA's data sheets. The first whose words are in the device's name.
PEAKS = {
    "H100 PCIe": (756e12, 378e12),
    "H100 NVL": (835e12, 417e12),
    "H100": (989e12, 495e12),
    "H200": (989e12, 495e12),
    "B200": (2250e12, 1125e12),
    "A100": (312e12, 156e12),
    "A10G": (70e12, 35e12),
    "A30": (165e12, 82e12),
    "A40": (150e12, 75e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
}


@dataclass(frozen=True)
class Size:
    """What is measured: rows and tokens of a batch, and steps of a round."""

    rows: int = 32
    source: int = 128
    target: int = 16
    answer: int = 8
    steps: int = 8
    t5: tuple[tuple[str, int], ...] = (
        ("d_model", 768), ("d_kv", 64), ("d_ff", 3072), ("num_layers", 12), ("num_heads", 12),
    )  # fmt: skip
    vocabulary: int = 32_128


SMALL = Size(
    rows=2, source=16, target=4, answer=2, steps=2, vocabulary=128,
    t5=(("d_model", 32), ("d_kv", 8), ("d_ff", 64), ("num_layers", 2), ("num_heads", 4)),
)  # fmt: skip


class NotMeasured(Exception):
    """Why a part cannot be measured here."""


# Speed and memory.


def peak_flops(device: str, precision: str) -> float | None:
    """Dense FLOP/s that a device can do at most; None: it is not in the table."""
    found = next((peaks for name, peaks in PEAKS.items() if re.search(rf"\b{name}\b", device)), None)
    return None if found is None else found[0 if precision == "bf16" else 1]


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def measure_variants(size: Size, precision: str, names: list[str] | None = None) -> list[dict[str, Any]]:
    """A row per variant: tokens, FLOP/s and operations in training, peak memory, rows per second in evaluation."""
    from hyperformer.settings.build import replace
    from hyperformer.settings.config_files import load_config
    from hyperformer.settings.schema import VARIANTS
    from hyperformer.training.ranks.join import join

    context = join()
    common = {"per_device_train_batch_size": size.rows, "precision": precision, "tasks": [TASK]}
    configs = {name: replace(load_config(name), **common) for name in VARIANTS}
    baseline = replace(configs[FULL], freeze_model=True, unfreeze_layer_norms=True, variant=FROZEN)
    rows = []
    for name, config in {FROZEN: baseline, **configs}.items():
        if names is None or name in names:
            rows.append({"variant": name, **_measure(config, size, context)})
    speed = {row["variant"]: row["tokens_per_second"] for row in rows}
    for row in rows:
        for word, other in (("of_frozen", FROZEN), ("of_full", FULL)):
            row[word] = row["tokens_per_second"] / speed[other] if other in speed else None
    return rows


def _measure(config: Any, size: Size, context: Any) -> dict[str, Any]:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import T5Config

    from hyperformer.adapters.build import build_model
    from hyperformer.training.deepspeed_config.batch import make_batch
    from hyperformer.training.engine import make_engine
    from hyperformer.training.numerics.kernels import choose_kernels

    class Operations(TorchDispatchMode):
        """Counts those that compute: most launch one kernel."""

        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = function.__name__
            self.count += not (function.is_view or "empty" in name or "view" in name)
            return function(*args, **(kwargs or {}))

    cuda = context.device.type == "cuda"
    gc.collect()
    held = torch.cuda.memory_allocated() if cuda else 0
    choose_kernels(config.training)
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=size.vocabulary, decoder_start_token_id=0, **dict(size.t5))
    with torch.device(context.device):
        model = build_model(config, t5=t5)
    engine = make_engine(model, config.training, make_batch(config.training, 1), context)
    batch = _batch(size, context.device)
    step = _training_step(engine, context, batch, config.training.label_smoothing)
    step()  # Adam makes its moments
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with FlopCounterMode(display=False) as counter:
        step()
    with Operations() as operations:
        step()
    seconds = _seconds(step, size.steps, cuda)
    peak = torch.cuda.max_memory_allocated() - held if cuda else None
    answers = _seconds(lambda: _generate(engine, batch, size.answer), 2, cuda)
    tokens = size.rows * (size.source + size.target)
    flops = counter.get_total_flops() / seconds
    most = peak_flops(device_name(), config.training.precision)
    engine.destroy()
    return {
        "tokens_per_second": tokens / seconds,
        "flops": flops,
        "share_of_peak": None if most is None else flops / most,
        "operations": operations.count,
        "peak_memory_bytes": peak,
        "evaluation_rows_per_second": size.rows / answers,
    }


def _batch(size: Size, device: Any) -> dict[str, Any]:
    import torch

    def draw(length: int) -> Any:
        return torch.randint(3, size.vocabulary, (size.rows, length), device=device)

    source = draw(size.source)
    return {"input_ids": source, "attention_mask": torch.ones_like(source), "labels": draw(size.target)}


def _training_step(engine: Any, context: Any, batch: dict[str, Any], smoothing: float) -> Callable[[], None]:
    """The step of a run."""
    from hyperformer.training.numerics.step_numbers import StepNumbers
    from hyperformer.training.optimization.loss import batch_loss
    from hyperformer.training.train_state import TrainState

    numbers = StepNumbers(engine, TrainState(), context, 0.0, lambda: None)

    def step() -> None:
        loss = batch_loss(engine, batch, TASK, smoothing)
        engine.backward(loss)
        numbers.after_backward(loss)

    return step


def _generate(engine: Any, batch: dict[str, Any], tokens: int) -> None:
    engine.module.eval()
    engine.module.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], task=TASK, do_sample=False,
        min_new_tokens=tokens, max_new_tokens=tokens,
    )  # fmt: skip
    engine.module.train()


def _seconds(work: Callable[[], None], times: int, cuda: bool) -> float:
    """Mean seconds of `work` in the quickest of three rounds, after a call that is not counted."""
    import torch

    wait = torch.cuda.synchronize if cuda else lambda: None
    work()
    rounds = []
    for _ in range(3):
        wait()
        started = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        rounds.append((time.perf_counter() - started) / times)
    return min(rounds)


# What is true, or not.


def toy_run(folder: Path, **settings: Any) -> dict[str, Any]:
    """A short run of the toy tasks in this process; its result.json."""
    from hyperformer.run import run
    from hyperformer.settings.build import replace
    from hyperformer.settings.config_files import load_config

    common = {
        "model_name_or_path": "toy", "data_source": "toy", "tasks": ["toy-sentiment", "toy-similarity"],
        "max_steps": 12, "per_device_train_batch_size": 8, "warmup_steps": 2, "learning_rate": 1e-3,
        "reduction_factor": 8, "logging_steps": 1, "eval_steps": 6, "save_steps": 4, "n_train": 64, "n_val": 16,
        "n_test": 16, "decode": "rank", "output_dir": str(folder), "cache_dir": str(folder.parent / "cache"),
    }  # fmt: skip
    return run(replace(load_config("hyperformer++"), **{**common, **settings}))


@contextlib.contextmanager
def stop_at(step: int) -> Iterator[None]:
    """In this block, a run gets SIGTERM at a step, as from a cluster."""
    from hyperformer.training.log import RunLog

    real = RunLog.step_done

    def step_done(self: RunLog, done: int) -> None:
        real(self, done)
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    RunLog.step_done = step_done  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunLog.step_done = real  # type: ignore[method-assign]


def check_resume(folder: Path, precision: str) -> dict[str, Any]:
    """Whether a run that was stopped and resumed ends bit-identical, with `deterministic`."""
    from hyperformer.errors import Interrupted
    from hyperformer.training.step_meter import MEASURED

    settings = {"precision": precision, "deterministic": True}
    toy_run(folder / "whole", **settings)
    with stop_at(5), contextlib.suppress(Interrupted):
        toy_run(folder / "cut", **settings)
    toy_run(folder / "cut", **settings)
    weights = [
        (folder / n / "adapter/hyperformer_adapter.safetensors").read_bytes() for n in ("whole", "cut")
    ]
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if key not in MEASURED}
            for line in (folder / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "cut")
    ]
    return {"bit_identical": weights[0] == weights[1] and lines[0] == lines[1]}


def check_overflow(folder: Path) -> dict[str, Any]:
    """fp16 with a first loss scale that no gradient fits: steps are skipped, then the run trains."""
    file = folder / "overflow.json"
    file.write_text(json.dumps({"fp16": {"enabled": "auto", "initial_scale_power": 32}}))
    result = toy_run(
        folder / "run", precision="fp16", max_steps=40, eval_steps=40, deepspeed_config=str(file)
    )
    return {"skipped_steps": result["skipped_steps"], "steps": 40, "test_average": result["test_average"]}


def check_nccl(folder: Path) -> dict[str, Any]:
    """Whether NCCL is what ranks talk by, and every ZeRO stage trains with it."""
    import torch.distributed as dist

    from hyperformer.training.ranks.join import join

    _need_cuda()
    join()
    results = {f"stage {n}": toy_run(folder / str(n), zero_stage=n)["test_average"] for n in range(4)}
    return {"backend": str(dist.get_backend()), "test_average": results}


def check_memory_recovery(folder: Path) -> dict[str, Any]:
    """A T5-base that gets 4 GiB: the micro-batch is halved from start to start, the evaluation's rows in place."""
    import torch
    from transformers import T5Config

    from hyperformer.errors import OutOfMemory
    from hyperformer.run_files.recovery import read_recovery
    from hyperformer.run_files.run_folder import RunFolder

    _need_cuda()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((4 << 30) / total)
    T5Config(vocab_size=32_128, decoder_start_token_id=0, **dict(Size().t5)).save_pretrained(folder / "t5")
    settings = {
        "model_name_or_path": str(folder / "t5"), "tokenizer_name": "toy", "random_init": True, "max_steps": 2,
        "warmup_steps": 0, "per_device_train_batch_size": 512, "per_device_eval_batch_size": 4096, "n_train": 1024,
        "eval_steps": 2,
    }  # fmt: skip
    said = []
    for _ in range(10):
        try:
            result = toy_run(folder / "run", **settings)
            break
        except OutOfMemory as error:
            said.append(str(error))
        gc.collect()
        torch.cuda.empty_cache()
    else:
        raise NotMeasured(f"the run does not recover: {said[-1]}")
    recovery = read_recovery(RunFolder(folder / "run"))
    segments = torch.cuda.memory._snapshot().get("allocator_settings", {}).get("expandable_segments")
    return {
        "starts": len(said) + 1,
        "micro_batch": 512 // recovery.micro_batch_parts,
        "evaluation_rows": result["eval_rows"],
        "expandable_segments": segments,
        "first_message": said[0] if said else None,
    }


def _need_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise NotMeasured("there is no CUDA device")


# Parts, one process each; the table.

PARTS: dict[str, Callable[[Size, Path], Any]] = {
    "bf16": lambda size, folder: measure_variants(size, "bf16"),
    "fp32": lambda size, folder: measure_variants(size, "fp32"),
    "resume fp32": lambda size, folder: check_resume(folder, "fp32"),
    "resume bf16": lambda size, folder: check_resume(folder, "bf16"),
    "resume fp16": lambda size, folder: check_resume(folder, "fp16"),
    "fp16 overflow": lambda size, folder: check_overflow(folder),
    "NCCL, one rank": lambda size, folder: check_nccl(folder),
    "out of memory": lambda size, folder: check_memory_recovery(folder),
}


def run_part(name: str, size: Size, result: Path) -> None:
    """One part, in this process; writes what it found, or why it found nothing."""
    from hyperformer.errors import HyperformerError

    with tempfile.TemporaryDirectory() as folder:
        try:
            found = {"found": PARTS[name](size, Path(folder)), "device": device_name()}
        except (NotMeasured, HyperformerError) as error:
            found = {"not_measured": str(error), "device": device_name()}
    result.write_text(json.dumps(found))


def run_parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """All parts; none may take the script beyond its minutes."""
    end, found = time.monotonic() + 60 * arguments.minutes, {}
    for name in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            result, command = Path(folder) / "result.json", [sys.executable, __file__, "--part", name]
            command += ["--result", str(result), *(["--small"] if arguments.small else [])]
            left, started = end - time.monotonic(), time.monotonic()
            try:
                if left < 10:
                    raise subprocess.TimeoutExpired(command, left)
                done = subprocess.run(command, capture_output=True, text=True, timeout=left)
                why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                found[name] = json.loads(result.read_text()) if result.exists() else {"not_measured": why}
            except subprocess.TimeoutExpired:
                found[name] = {"not_measured": f"no time was left of {arguments.minutes} minutes"}
            found[name]["seconds"] = round(time.monotonic() - started, 1)
            told = f"not measured: {found[name]['not_measured']}, " if "found" not in found[name] else ""
            print(f"{name}: {told}{found[name]['seconds']} s", flush=True)
    return found


def table(found: dict[str, Any], size: Size, small: bool) -> str:
    """The section of RESULTS.md for this device."""
    device = next((part["device"] for part in found.values() if "device" in part), "unknown device")
    lines = [f"## {device}{', small shapes' if small else ''}", ""]
    lines.append(
        f"{size.rows} rows of {size.source} source and {size.target} target tokens, T5 of width "
        f"{dict(size.t5)['d_model']}, random weights; fp32 computes in TF32 on a GPU."
    )
    if peak_flops(device, "bf16") is None:
        lines.append(
            f"Share of peak: not measured: the peak FLOP/s of {device} are not in the table of `gpu.py`."
        )
    if device == "CPU":
        lines.append("Peak memory: not measured: torch counts that of GPUs only.")
    if small:
        lines.append("These shapes show that the script works; the figures say nothing about speed.")
    head = (
        "| | tokens/s | share of peak | operations per step | of frozen T5 | of full fine-tuning | peak memory "
        "| evaluation rows/s |"
    )
    for precision in ("bf16", "fp32"):
        part = found[precision]
        lines += ["", f"### {precision}", ""]
        if "found" not in part:
            lines.append(f"not measured: {part['not_measured']}")
            continue
        lines += [head, "| --- |" + 7 * " ---: |", *(_row(row) for row in part["found"])]
    lines += ["", "### Checks", ""]
    for name in list(PARTS)[2:]:
        part = found[name]
        told = (
            ", ".join(f"{key} {value}" for key, value in part["found"].items())
            if "found" in part
            else f"not measured: {part['not_measured']}"
        )
        lines.append(f"- {name}: {told}")
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    def cell(value: float | None, words: str, scale: float = 1.0) -> str:
        return "-" if value is None else words.format(value * scale)

    cells = [
        row["variant"], f"{row['tokens_per_second']:,.0f}", cell(row["share_of_peak"], "{:.1f}%", 100),
        f"{row['operations']:,}", cell(row["of_frozen"], "{:.2f}"), cell(row["of_full"], "{:.2f}"),
        cell(row["peak_memory_bytes"], "{:.2f} GiB", 2**-30), f"{row['evaluation_rows_per_second']:,.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def with_section(text: str, section: str) -> str:
    """RESULTS.md with a section: in the place of the one with the same title, or at the end."""
    title, _, _ = section.partition("\n")
    before, *sections = ("\n" + text).split("\n## ")
    kept = [f"## {one.strip()}\n" for one in sections if not f"## {one}".startswith(f"{title}\n")]
    intro = before.strip() or "# Results\n\nWhat `benchmarks/gpu.py` found, by device."
    return "\n".join([f"{intro}\n", *kept, section])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="tiny shapes, for a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="the most that all parts take")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for gpu.json and RESULTS.md")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse()
    size = SMALL if arguments.small else Size()
    if arguments.part:
        run_part(arguments.part, size, arguments.result)
        return
    found = run_parts(arguments)
    (arguments.output / "gpu.json").write_text(json.dumps(found, indent=2) + "\n")
    results = arguments.output / "RESULTS.md"
    before = results.read_text() if results.exists() else ""
    results.write_text(with_section(before, table(found, size, arguments.small)))
    print(f"{results} and gpu.json are written")


if __name__ == "__main__":
    main()
