"""How many files each rank opens at a save and at a resume.

    python benchmarks/ranks.py --ranks 4 16
    python benchmarks/ranks.py --ranks 16 --resume-on 8

Real processes over gloo, with the toy T5. One process imports everything and forks the ranks.
Opens are counted by Python's audit hook, and those of safetensors, which is no Python, at its one function.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from hyperformer.adapters.build import build_model
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.training.checkpoints import saved_shards
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.ranks.join import join
from hyperformer.training.ranks.rendezvous import free_port
from hyperformer.training.train_state import TrainState

TASK = "toy-sentiment"
_WRITING = os.O_WRONLY | os.O_RDWR


class Opens:
    """Counts the files under a folder that this process opens, to read and to write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts = str(folder), Counter[str]()
        sys.addaudithook(self._see)
        real = saved_shards.safe_open

        def counted(path: str, **more: Any) -> Any:
            self.counts["read"] += 1
            return real(path, **more)

        saved_shards.safe_open = counted  # type: ignore[assignment]

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(self.folder) and not os.path.isdir(arguments[0]):
            self.counts["written" if arguments[2] & _WRITING else "read"] += 1

    def take(self) -> dict[str, int]:
        """The counts since the last call."""
        taken, self.counts = dict(self.counts), Counter()
        return taken


def one_rank(folder: Path, stage: int, resume: bool) -> dict[str, int]:
    """In a fork: a step and a save, or a resume; returns what was opened."""
    torch.set_num_threads(1)
    context = join()
    config = replace(
        load_config("hyperformer++"),
        model_name_or_path="toy",
        data_source="toy",
        tasks=[TASK],
        zero_stage=stage,
        per_device_train_batch_size=1,
    )
    batch = make_batch(config.training, context.size)
    engine = make_engine(build_model(config), config.training, batch, context)
    context.groups_made()
    opens = Opens(folder)
    checkpoints = Checkpoints(folder, context, keep=2, seed=0)
    if resume:
        assert checkpoints.find() is not None
        checkpoints.load(engine)
        return opens.take()
    ids = torch.full((1, 4), 5)
    rows = {"input_ids": ids, "attention_mask": ids > 0, "labels": ids}
    engine.backward(batch_loss(engine, rows, TASK, 0.0))
    engine.step()
    opens.take()
    checkpoints.save(engine, TrainState(step=1), 0.0)
    return opens.take()


def run(ranks: int, folder: Path, stage: int, resume: bool) -> list[dict[str, int]]:
    """What each of `ranks` processes opened."""
    port, children = free_port(), []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            code = 1
            try:
                found = one_rank(folder / "checkpoints", stage, resume)
                (folder / f"opens-{rank}.json").write_text(json.dumps(found))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    assert not any([os.waitpid(child, 0)[1] for child in children]), "a rank failed"
    return [json.loads((folder / f"opens-{rank}.json").read_text()) for rank in range(ranks)]


def told(found: list[dict[str, int]]) -> str:
    """Cells of the table: rank 0, the most of another rank, all together."""
    opened = [each.get("read", 0) + each.get("written", 0) for each in found]
    return f"{opened[0]} | {max(opened[1:], default=0)} | {sum(opened)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[4])
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--resume-on", type=int, help="ranks at the resume; default: as many as saved")
    arguments = parser.parse_args()
    print("| ranks | stage | save: rank 0 | others | all | resume: rank 0 | others | all |", flush=True)
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for ranks in arguments.ranks:
        for stage in arguments.stages:
            with tempfile.TemporaryDirectory() as folder:
                saved = run(ranks, Path(folder), stage, resume=False)
                again = arguments.resume_on or ranks
                resumed = run(again, Path(folder), stage, resume=True)
            shown = ranks if again == ranks else f"{ranks} → {again}"
            print(f"| {shown} | {stage} | {told(saved)} | {told(resumed)} |", flush=True)


if __name__ == "__main__":
    main()
