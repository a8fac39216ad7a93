"""What the rows of a run cost before its first step: processor time and memory, made anew and from the cache.

    python benchmarks/inputs.py                                         # 50,000 rows of JSON lines
    python benchmarks/inputs.py --rows 1000000 --words 4 10 --rounds 1
    python benchmarks/inputs.py --other ../earlier --tokenizer t5-small # beside another checkout

Each start is a process of its own, with one thread; the checkouts take turns, and the first start of each makes the
cache. Imports and the tokenizer are not counted. A figure is the median of the rounds. Memory is the peak of the
process above what it had before it loaded the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = """
rows:
  template: "sentence: {sentence}"
  target: label
  labels: ["0", "1"]
  metrics: [accuracy]
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def write_rows(folder: Path, rows: int, words: tuple[int, int]) -> None:
    """A task `rows`: its definition, and so many training rows of so many words; 1,000 of the other splits."""
    rng = random.Random(1)
    known = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(3_000)]
    (folder / "tasks.yaml").write_text(TASK)
    (folder / "rows").mkdir()
    for split, count in (("train", rows), ("validation", 1_000), ("test", 1_000)):
        with (folder / "rows" / f"{split}.jsonl").open("w") as stream:
            for _ in range(count):
                text = " ".join(rng.choices(known, k=rng.randint(*words)))
                stream.write(json.dumps({"sentence": text, "label": rng.randint(0, 1)}) + "\n")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start(folder: Path, tokenizer: str, cache: str) -> None:
    """Load the rows as a run does, and print seconds, MB and what was read."""
    import torch

    try:
        from hyperformer.adapters.bases.pretrained import load_tokenizer
    except ImportError:  # an older checkout has it there
        from hyperformer.adapters.build import load_tokenizer
    from hyperformer.data.tasks import get_task, load_user_tasks
    from hyperformer.settings.build import make_config
    from hyperformer.training.inputs import load_run_data
    from hyperformer.training.ranks.distributed import DistributedContext

    config = make_config(
        {
            "tasks": ["rows"], "task_file": str(folder / "tasks.yaml"), "data_source": "folder",
            "data_dir": str(folder), "cache_dir": cache, "model_name_or_path": tokenizer,
        }
    )  # fmt: skip
    tasks = {"rows": get_task("rows", load_user_tasks(config.data.task_file))}
    loaded = load_tokenizer(config.model)
    alone = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
    before, started = peak(), time.process_time()
    data = load_run_data(config, tasks, loaded, alone)
    seconds = time.process_time() - started
    read = [part["rows"].fingerprint for part in (data.train, data.validation, data.test)]
    print(json.dumps({"seconds": seconds, "MB": peak() - before, "read": read}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--words", type=int, nargs=2, default=(8, 24), metavar=("FEWEST", "MOST"))
    parser.add_argument("--rounds", type=int, default=5, help="starts from the cache")
    parser.add_argument(
        "--tokenizer", default="toy", help="a T5 on the hub, or a folder; default: the toy T5's"
    )
    parser.add_argument("--other", type=Path, help="another checkout, to compare with")
    parser.add_argument("--start", nargs=2, metavar=("FOLDER", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        start(Path(arguments.start[0]), arguments.tokenizer, arguments.start[1])
        return
    checkouts = {"this": Path(__file__).parents[1]}
    if arguments.other:
        checkouts["other"] = arguments.other.absolute()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder), arguments.rows, tuple(arguments.words))
        found: dict[str, list[dict[str, object]]] = {name: [] for name in checkouts}
        for _ in range(1 + arguments.rounds):
            for name, checkout in checkouts.items():
                words = ["--tokenizer", arguments.tokenizer, "--start", folder, f"{folder}/cache-{name}"]
                told = subprocess.run(
                    [sys.executable, __file__, *words],
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(checkout)},
                    check=True, stdout=subprocess.PIPE, text=True,
                ).stdout  # fmt: skip
                found[name].append(json.loads(told.splitlines()[-1]))
    if len({str(one["read"]) for starts in found.values() for one in starts}) > 1:
        sys.exit("the starts did not read the same rows and ids")
    print(
        f"| {arguments.rows:,} rows | seconds, made anew | from the cache | MB, made anew | from the cache |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (first, *starts) in found.items():
        seconds, memory = (statistics.median(one[key] for one in starts) for key in ("seconds", "MB"))
        print(f"| {name} | {first['seconds']:.2f} | {seconds:.3f} | {first['MB']:.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
