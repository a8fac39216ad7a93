"""What follows a failure: how often a run starts again by itself, by the kind of its failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.failure_kinds import KINDS, UNLIMITED, Action, Failure, Kind
from launchers.plan.resources import whole_number

# Kinds that a profile's `retries:` may name. The others would end the same way, or against the user's will.
_DEFAULTS: dict[str, int | None] = {
    name: kind.retries for name, kind in KINDS.items() if kind.action != "end"
}


@dataclass(frozen=True)
class RetryPolicy:
    """The budgets of a sweep.

    Attributes:
        retries: kind -> times that a run may start again for it; None: without limit.
        stop_after: runs with the same traceback after which the rest of the sweep is held; 0: never.
    """

    retries: Mapping[str, int | None] = field(default_factory=lambda: dict(_DEFAULTS))
    stop_after: int = 3

    def as_json(self) -> dict[str, Any]:
        return {"retries": dict(self.retries), "stop_after": self.stop_after}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RetryPolicy:
        """The inverse of :meth:`as_json`; what is missing has its default."""
        known = {kind: count for kind, count in record.get("retries", {}).items() if kind in _DEFAULTS}
        return cls({**_DEFAULTS, **known}, record.get("stop_after", cls.stop_after))


def read_retry_policy(retries: YamlNode | None, stop_after: YamlNode | None) -> RetryPolicy:
    """The policy that a profile's `retries:` and `stop_after:` ask for.

    Raises:
        ConfigError: unknown kind or impossible number, with its line.
    """
    found = dict(_DEFAULTS)
    for name, entry in (retries.mapping() if retries else {}).items():
        if name in KINDS and name not in _DEFAULTS:
            entry.fail(f"runs that end like this are never restarted automatically ({KINDS[name].words})")
        if name not in _DEFAULTS:
            entry.fail(f"unknown kind of failure {name!r}{nearest(name, _DEFAULTS)}")
        found[name] = None if entry.value == UNLIMITED else whole_number(entry, 0)
    stop = whole_number(stop_after, 0) if stop_after else RetryPolicy.stop_after
    return RetryPolicy(found, stop)


@dataclass(frozen=True)
class NextStep:
    """What is done about a failure, and why."""

    action: Action
    why: str


def next_step(failure: Failure, before: Sequence[Kind], progressed: bool, policy: RetryPolicy) -> NextStep:
    """What to do after a failure.

    Args:
        before: kinds of the run's earlier failures since a user last asked for it.
        progressed: whether this attempt made steps, or had too little of the limit for any.
    """
    kind = KINDS[failure.kind]
    if kind.action == "end":
        return NextStep("end", kind.words)
    if kind.name == "time_limit" and not progressed:
        return NextStep("end", "it made no further step within the time limit: give it more (`time:`)")
    spent, budget = list(before).count(kind.name), policy.retries[kind.name]
    if budget is not None and spent >= budget:
        times = f"{spent} time{'s' if spent != 1 else ''}"
        reason = f"it was started again for this {times} already" if spent else f"`retries: {kind.name}` is 0"
        return NextStep("end", f"{kind.words}; {reason}")
    return NextStep(kind.action, kind.words)
