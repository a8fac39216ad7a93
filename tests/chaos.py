"""Kill runs by SIGKILL at random, seeded moments, again and again; they must end as if nothing had been.

    python tests/chaos.py                    # a hundred kills; make chaos
    python tests/chaos.py --kills 10 --seed 3

Prints a table: when each kill came, how many steps were done twice for it, and how long it
took from the kill until the run trained again (start-up of Python not counted: runs are forked).
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from training.forked_runs import ForkedRuns
from training.test_resume import assert_same

SETTINGS: dict[str, Any] = {"max_steps": 40, "save_steps": 5, "eval_steps": 10, "logging_steps": 3}
SCENARIOS: list[dict[str, Any]] = [
    {},
    {"save_in_background": True, "gradient_accumulation_steps": 2},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 3, "save_total_limit": 1},
    {"zero_stage": 1, "ranks": 2},
]


@dataclass
class Kill:
    """One kill.

    Attributes:
        moment: when, in seconds since the epoch.
        phase: what the run was in when it came.
        repeated: steps done before it that had to be done again.
        seconds: from the kill to the next finished step, or None if the run ended without one.
    """

    moment: float
    phase: str
    repeated: int = 0
    seconds: float | None = None


def lines(trace: Path) -> list[tuple[float, str, int]]:
    """The whole lines of a trace."""
    if not trace.exists():
        return []
    words = [line.split() for line in trace.read_text().split("\n")[:-1]]
    return [(float(moment), word, int(step)) for moment, word, step in words]


def disturbed(runs: ForkedRuns, folder: Path, scenario: int, rng: random.Random, most: int) -> list[Kill]:
    """A run killed until it ends, at most so many times."""
    kills: list[Kill] = []
    while True:
        trace = folder.parent / f"{folder.name}.trace"
        before = lines(trace)
        # Most while it trains, saves or evaluates; some before that.
        clock = "seconds of training" if rng.random() < 0.85 else "seconds"
        at = (clock, rng.uniform(0, 1)) if len(kills) < most else None
        ended = runs.run(folder, at=at, trace=trace, **SETTINGS, **SCENARIOS[scenario])
        killed = time.time()
        now = lines(trace)[len(before) :]
        steps = [(moment, step) for moment, word, step in now if word == "training" and step]
        if kills and kills[-1].seconds is None and steps:
            # What was done before the last kill, and again now.
            last = max((step for _, word, step in before if word == "training"), default=0)
            kills[-1].repeated = max(0, last - steps[0][1] + 1)
            kills[-1].seconds = steps[0][0] - kills[-1].moment
        if set(ended.codes) == {0}:
            return kills
        assert ended.codes[0] == -9, ended.out
        kills.append(Kill(killed, now[-1][1] if now else "starting"))


def chaos(runs: ForkedRuns, folder: Path, number: int, seed: int) -> list[Kill]:
    """Kill `number` times, over as many runs as it takes; every one must equal its undisturbed twin."""
    rng, kills, count = random.Random(seed), [], 0
    whole: dict[int, Path] = {}
    while len(kills) < number:
        scenario = count % len(SCENARIOS)
        if scenario not in whole:
            whole[scenario] = folder / f"whole-{scenario}"
            runs.whole(whole[scenario], **SETTINGS, **SCENARIOS[scenario])
        run = folder / f"run-{count}"
        kills += disturbed(runs, run, scenario, rng, min(10, number - len(kills)))
        assert_same(whole[scenario], run)
        shutil.rmtree(run)
        count += 1
    return kills


def table(kills: list[Kill]) -> str:
    by_phase = defaultdict(list)
    for kill in kills:
        by_phase[kill.phase].append(kill)
    rows = [
        f"{'killed while':<14}{'times':>7}{'steps repeated':>16}{'most':>6}{'seconds to train again':>25}"
    ]
    for phase, group in [*sorted(by_phase.items()), ("all", kills)]:
        seconds = [kill.seconds for kill in group if kill.seconds is not None]
        again = f"{statistics.median(seconds):.2f}" if seconds else "-"
        repeated = [kill.repeated for kill in group]
        rows.append(
            f"{phase:<14}{len(group):>7}{statistics.mean(repeated):>16.1f}{max(repeated):>6}{again:>25}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = ForkedRuns(Path(name))
        try:
            kills = chaos(runs, Path(name), arguments.kills, arguments.seed)
        finally:
            runs.close()
    print(table(kills))
    print(f"{len(kills)} kills; every run ended with the weights of an undisturbed one, to the bit")


if __name__ == "__main__":
    main()
