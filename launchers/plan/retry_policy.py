"""What follows a failure: how often a run is started again by itself, by the kind of its failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import Located
from launchers.plan.failure_kinds import _NEED_A_NEW_JOB, _RETRIES, NEVER, WORDS, Failure, Kind
from launchers.plan.resources import whole_number

Action = Literal["end", "again", "requeue"]

UNLIMITED = "unlimited"


@dataclass(frozen=True)
class Policy:
    """The budgets of a sweep.

    Attributes:
        retries: kind -> times that a run may be started again for it; None: without end.
        stop_after: runs with the same traceback after which the rest of the sweep is held; 0: never.
    """

    retries: Mapping[Kind, int | None] = field(default_factory=lambda: dict(_RETRIES))
    stop_after: int = 3

    def as_json(self) -> dict[str, Any]:
        return {"retries": dict(self.retries), "stop_after": self.stop_after}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Policy:
        """The inverse of :meth:`as_json`; what is missing has its default."""
        known = {kind: count for kind, count in record.get("retries", {}).items() if kind in _RETRIES}
        return cls({**_RETRIES, **known}, record.get("stop_after", cls.stop_after))


def read_policy(retries: Located | None, stop_after: Located | None) -> Policy:
    """The policy that a profile's `retries:` and `stop_after:` ask for.

    Raises:
        ConfigError: unknown kind or impossible number, with its line.
    """
    found = dict(_RETRIES)
    for name, entry in (retries.mapping() if retries else {}).items():
        if name in NEVER:
            entry.fail(f"runs that end so are never started again by themselves ({WORDS[name]})")
        if name not in _RETRIES:
            entry.fail(f"unknown kind of failure {name!r}{nearest(name, _RETRIES)}")
        found[name] = None if entry.value == UNLIMITED else whole_number(entry, 0)
    stop = whole_number(stop_after, 0) if stop_after else Policy.stop_after
    return Policy(found, stop)


@dataclass(frozen=True)
class Decision:
    """What is done about a failure, and why."""

    action: Action
    why: str


def decide(failure: Failure, before: Sequence[Kind], progressed: bool, policy: Policy) -> Decision:
    """What to do after a failure.

    Args:
        before: kinds of the run's earlier failures since a user last asked for it.
        progressed: whether this attempt made steps, or had too little of the limit for any.
    """
    kind = failure.kind
    if kind in NEVER:
        return Decision("end", WORDS[kind])
    if kind == "time_limit" and not progressed:
        return Decision("end", "no step more was made within the time limit: give it more (`time:`)")
    spent, budget = list(before).count(kind), policy.retries[kind]
    if budget is not None and spent >= budget:
        times = f"{spent} time{'s' if spent != 1 else ''}"
        told = f"it was started again for this {times} already" if spent else f"`retries: {kind}` is 0"
        return Decision("end", f"{WORDS[kind]}; {told}")
    action: Action = "requeue" if kind in _NEED_A_NEW_JOB else "again"
    return Decision(action, WORDS[kind])
