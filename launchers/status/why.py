"""Why a run waits or failed, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperformer.settings.schema import flatten
from launchers.job import classify
from launchers.plan.naming import value_text
from launchers.plan.runs import Run
from launchers.slurm import batch_script
from launchers.status import logs
from launchers.status.run_status import BAD, RunStatus
from launchers.store.ledger import Ledger, last_attempt
from launchers.store.records import try_record

# SLURM's reasons, decoded. A name ending in * stands for all that begin so.
_WAITS = {
    "Resources": "waits for free nodes, GPUs or memory",
    "Priority": "others with a higher priority are before it",
    "JobArrayTaskLimit": "the sweep's own max_parallel holds it back",
    "Dependency": "waits for the array before it (max_parallel)",
    "DependencyNeverSatisfied": "waits for a job that can no longer end as it should: it will never start; "
    "`cancel` it and submit again",
    "JobHeldUser": "held by its user: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "BeginTime": "was put back into the queue and may start in a moment",
    "PartitionTimeLimit": "asks for more time than the partition allows: it will never start as it is",
    "PartitionNodeLimit": "asks for more nodes than the partition allows: it will never start as it is",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs now",
    "ReqNodeNotAvail*": "a node that it needs is down, drained or reserved",
    "Nodes required*": "the nodes that it needs are down, drained or reserved",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone: it will never start",
    "Licenses": "waits for a licence",
    "BadConstraints": "no node has what it asks for: it will never start as it is",
    "AssocMaxJobsLimit": "your account runs as many jobs as it may",
    "AssocGrp*": "your account's share is used up for now",
    "QOSMaxJobsPerUserLimit": "the QOS lets you run no more jobs at once",
    "QOS*": "a limit of the QOS holds it back",
    "Assoc*": "a limit of your account holds it back",
    "MaxMemPerLimit": "asks for more memory than it may: it will never start as it is",
    "launch failed requeued held": "a node could not start it, so it is held: scontrol release",
    "None": "SLURM has not looked at it yet",
}
_ENDS = {
    "TIMEOUT": "its time was up: give it more (`time:`), it goes on from its last checkpoint",
    "OUT_OF_MEMORY": "it took more memory than it asked for: raise mem_gb",
    "NODE_FAIL": "its node failed: submit again",
    "PREEMPTED": "a more urgent job took its place: submit again",
    "BOOT_FAIL": "its node did not start: submit again",
    "DEADLINE": "its deadline passed",
    "FAILED": "it failed",
}


def is_out_of_memory(status: RunStatus, ledger: Ledger) -> bool:
    """Whether it ended for want of memory, of the GPU or the machine."""
    kind = status.kind
    if kind is None:  # nobody settled it: its job was gone too soon, or did not get so far
        told = f"{status.slurm_state} {status.detail} {last_words(status, ledger)}"
        failure = classify.classify(classify.Evidence(log=told))
        kind = failure.kind if failure else None
    return kind in ("out_of_gpu_memory", "out_of_memory")


def why(status: RunStatus, ledger: Ledger) -> str | None:
    """A plain line on a run that waits or did not end well; None for the others."""
    if status.state == "pending":
        reason = status.reason or status.detail or "None"
        line = f"{reason}: {_decode(reason)}" if reason != "None" else _decode(reason)
        start = (
            f"; expected to start at {status.expected_start.replace('T', ' ')}"
            if status.expected_start
            else ""
        )
        return line + start
    if status.state == "failed" or status.state == "lost":
        how = _ENDS.get(status.slurm_state or "", "")
        told = " ".join(status.detail.split())
        last = last_words(status, ledger)
        parts = [told] if told else []
        if status.note:
            return "; ".join([*parts, status.note])[:600]
        if how and how not in told and status.slurm_state != "FAILED":
            parts.append(how)
        message = told.partition(": ")[2] or told
        if last and last not in told and message not in last:
            parts.append(f"last line of its log: {last}")
        return "; ".join(parts)[:600]
    if status.state == "damaged" or status.unreadable:
        return status.detail
    if status.state == "stopped":
        told = status.note or status.detail
        return f"it stopped{': ' + told if told else ''}; submit goes on from its last checkpoint"
    return None


def last_words(status: RunStatus, ledger: Ledger) -> str:
    """The last line of the run's traceback, or of its standard error."""
    folder = Path(status.folder)
    attempt = last_attempt(folder)
    if attempt is not None:
        outcome = try_record(attempt.outcome) or {}
        tail = [line for line in outcome.get("traceback_tail", ()) if line.strip()]
        if tail:
            return str(tail[-1]).strip()
    paths = [attempt.logs[1]] if attempt else []
    if status.cluster == "slurm" and status.job_id:
        paths.append(batch_script.log_paths(ledger.submitit, status.job_id)[1])
    return next(filter(None, (classify.last_words(logs.tail(path)) for path in paths)), "")


def shared_by_failed(runs: Sequence[Run], statuses: Sequence[RunStatus]) -> str | None:
    """What the failed runs have in common and the others do not, in a line."""
    failed = [run for run, status in zip(runs, statuses, strict=True) if status.state in BAD]
    others = [run for run, status in zip(runs, statuses, strict=True) if status.state in ("done", "running")]
    if len(failed) < 2 or not others:
        return None
    flats = [_settings(run) for run in failed]
    rest = [_settings(run) for run in others]
    common = [
        f"{key}={value}" for key, value in flats[0].items()
        if all(flat.get(key) == value for flat in flats) and not any(flat.get(key) == value for flat in rest)
    ]  # fmt: skip
    if not common:
        return f"the {len(failed)} failed runs share no setting that the others do not have"
    return f"the {len(failed)} failed runs share, and no other has: {'  '.join(common)}"


def _settings(run: Run) -> Mapping[str, str]:
    flat = {key: value_text(value) for key, value in flatten(run.config).items() if key != "output_dir"}
    resources = run.resources
    return {
        **flat,
        "partition": str(resources.partition),
        "mem_gb": str(resources.mem_gb),
        "time": str(resources.time),
    }


def _decode(reason: str) -> str:
    for name, words in _WAITS.items():
        if reason == name or (name.endswith("*") and reason.startswith(name[:-1])):
            return words
    return "SLURM's word; `scontrol show job` tells more"
