"""How often a race ends with the winner of the full grid, and with which share of its steps: trainings, replayed.

    python benchmarks/race.py [RACES]

Reads race_trainings.json, which `benchmarks/race_trainings.py` recorded: real trainings, one for each setting and seed
of some grids. A race draws half the settings of a grid, or all of them, in a random order. All runs are equally fast.
The launcher's own rule decides who moves on.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scipy.stats import spearmanr

from launchers.plan.race.promote import TO_THE_END, Entrant, promote

FILE = Path(__file__).with_name("race_trainings.json")
# After which of a training's evaluations settings are judged.
RUNGS = [(2,), (3,), (4,), (1, 2, 4), (2, 4), (3, 5)]
KEEP = [1 / 2, 1 / 3, 1 / 4]
MACHINES = [1, 1000]
Curves = Sequence[Sequence[float]]
"""Of one setting: for each seed, the validation average at each evaluation."""


def read_grids() -> dict[str, list[Curves]]:
    """Grid -> its settings."""
    found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for one in json.loads(FILE.read_text())["trainings"]:
        found[one["grid"]][json.dumps(one["settings"])].append(one["validation"])
    return {grid: list(settings.values()) for grid, settings in found.items()}


def score(curves: Curves, evaluations: int) -> float:
    """Of the checkpoint that each run would keep after so many evaluations: the mean over seeds."""
    return statistics.fmean(max(curve[:evaluations]) for curve in curves)


class Replay:
    """One race.

    Args:
        field: its settings, in the order in which they start.
        rungs: numbers of evaluations.
    """

    def __init__(self, field: Sequence[Curves], rungs: Sequence[int], keep: float, machines: int) -> None:
        self.field, self.rungs, self.keep, self.free = field, rungs, keep, machines
        self.length = len(field[0][0])
        self.goals: list[float] = [rungs[0]] * len(field)
        self.reached = {(index, seed): 0 for index, curves in enumerate(field) for seed in range(len(curves))}
        self.waiting = list(self.reached)
        self.running: list[tuple[int, int, tuple[int, int]]] = []
        self.time = self.spent = 0

    def run(self) -> tuple[int, float]:
        """The setting that the race chooses, and its share of the steps of the full grid."""
        count = itertools.count()
        while True:
            self.move_on()
            while self.waiting and self.free:
                run = self.waiting.pop(0)
                steps = int(min(self.goals[run[0]], self.length)) - self.reached[run]
                heapq.heappush(self.running, (self.time + steps, next(count), run))
                self.free, self.spent = self.free - 1, self.spent + steps
            if not self.running:
                break
            self.time, _, run = heapq.heappop(self.running)
            self.reached[run] = int(min(self.goals[run[0]], self.length))
            self.free += 1
        ended = [index for index, goal in enumerate(self.goals) if goal == TO_THE_END]
        best = max(ended, key=lambda index: (score(self.field[index], self.length), -index))
        return best, self.spent / (len(self.reached) * self.length)

    def move_on(self) -> None:
        if self.waiting or not self.free:
            return
        for index, goal in promote(
            [self.entrant(index) for index in range(len(self.field))], self.rungs, self.keep
        ).items():
            self.goals[index] = goal
            self.waiting += [(index, seed) for seed in range(len(self.field[index]))]

    def entrant(self, index: int) -> Entrant:
        curves = self.field[index]
        least = min(self.reached[index, seed] for seed in range(len(curves)))
        return Entrant({rung: score(curves, rung) for rung in self.rungs if rung <= least}, self.goals[index])


def draws(grids: Mapping[str, Sequence[Curves]], races: int) -> Iterator[list[Curves]]:
    """Settings that race, and their order; the same for every rule."""
    source = random.Random(0)
    for settings in grids.values():
        for number in range(races):
            yield source.sample(settings, len(settings) if number % 2 else len(settings) // 2)


def one_seed(grids: Mapping[str, Sequence[Curves]], length: int) -> str:
    """What the seeds alone do to the choice: the winner of all steps by one seed, judged by all seeds."""
    behind = []
    for settings in grids.values():
        best = max(score(curves, length) for curves in settings)
        for seed in range(len(settings[0])):
            chosen = max(settings, key=lambda curves: score([curves[seed]], length))
            behind.append(best - score(chosen, length))
    same = sum(points < 1e-9 for points in behind)
    return f"{same} of {len(behind)} times the same winner, {statistics.fmean(behind):.1f} points behind on average"


def as_at_the_end(grids: Mapping[str, Sequence[Curves]], evaluations: int, length: int) -> float:
    """Spearman's correlation of the settings' scores then with those at the end; mean over grids."""
    pairs = (
        [(score(one, evaluations), score(one, length)) for one in settings] for settings in grids.values()
    )
    return statistics.fmean(float(spearmanr(each).statistic) for each in pairs)


def main(races: int) -> None:
    grids = read_grids()
    trainings = sum(len(curves) for settings in grids.values() for curves in settings)
    length = len(next(iter(grids.values()))[0][0])
    print(f"{trainings} trainings, {len(grids)} grids, {races * len(grids)} races per line")
    ranks = ", ".join(f"{as_at_the_end(grids, number, length):.2f}" for number in range(3, length + 1))
    print(f"correlation with the order at the end, from the third evaluation on: {ranks}")
    print(f"the full grid with one seed: {one_seed(grids, length)}\n")
    print(
        "| rungs (of the evaluations) | keep | machines | the winner | points behind it | in the worst 5% | steps |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rungs, keep, machines in itertools.product(RUNGS, KEEP, MACHINES):
        behind, spent = [], []
        for field in draws(grids, races):
            chosen, share = Replay(field, rungs, keep, machines).run()
            best = max(score(curves, length) for curves in field)
            behind.append(best - score(field[chosen], length))
            spent.append(share)
        same = sum(points < 1e-9 for points in behind) / len(behind)
        worst = sorted(behind)[int(0.95 * len(behind))]
        where = ", ".join(f"{rung}/{length}" for rung in rungs)
        many = "as many as runs" if machines == 1000 else machines
        print(
            f"| {where} | {keep:.2f} | {many} | {100 * same:.0f}% | {statistics.fmean(behind):.2f} | {worst:.1f} "
            f"| {100 * statistics.fmean(spent):.0f}% |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
