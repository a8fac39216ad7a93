"""Which kind of failure an attempt's end is. Pure: reads nothing but what it is given.

The evidence of an end, the most reliable first: what the run itself wrote (its outcome),
what SLURM's daemons wrote into its log, the exit code of srun, the tail of its log.
"""

from __future__ import annotations

import errno
import hashlib
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hyperformer.disk_space import FULL
from hyperformer.errors import HANG_EXIT, TAKEN_OVER_EXIT
from launchers.plan.failure_kinds import Failure, Kind
from launchers.store.attempts import Outcome, last_log_line

_GPU_MEMORY = re.compile(
    r"(CUDA|HIP|NPU|XPU)( error:| failure \S+)?\W*out of memory|CUDA_ERROR_OUT_OF_MEMORY"
    r"|CUBLAS_STATUS_ALLOC_FAILED",
    re.I,
)
_MEMORY = re.compile(
    r"oom.?kill|Out Of Memory|exceeded (job|step) memory limit|exceeded memory limit|std::bad_alloc"
    r"|MemoryError|OUT_OF_MEMORY|DefaultCPUAllocator: (can't|not enough)|cannot allocate memory",
    re.I,
)
_COLLECTIVE = re.compile(
    r"\bNCCL\b|\bgloo\b|ProcessGroup|rendezvous|c10d|TCPStore|Connection closed by peer"
    r"|Connection reset by peer|EADDRINUSE|Address already in use|No route to host"
)
_SOURCE = re.compile(
    r"Connect(ion)?(Error|Timeout)|RemoteProtocolError|NameResolutionError|gaierror|ReadTimeout|HTTPError|HfHubHTTPError|LocalEntryNotFoundError"
    r"|OfflineModeIsEnabled|Stale file handle|Couldn't reach|Max retries exceeded"
)
_NCCL = re.compile(r"ProcessGroupNCCL|NCCL (error|WARN)", re.I)
_GPU = re.compile(
    r"uncorrectable ECC|device\(s\) is/are busy|no CUDA-capable device|GPU is lost|fallen off the bus"
    r"|hardware error|CUDA driver initialization failed",
    re.I,
)
# SLURM's own words (bytes), and those of the kernel as SLURM passes them on.
_USED = re.compile(r"exceeded (job |step )?memory limit \((?P<used>\d+) > (?P<allowed>\d+)\)", re.I)
_KERNEL = re.compile(r"oom.?kill", re.I)
_HANG = re.compile(r"^Timeout \(\d+:\d\d:\d\d", re.M)  # faulthandler's words
_WAITED = re.compile(
    r"Watchdog caught collective operation timeout", re.I
)  # NCCL's: a rank waited for another one
# What SLURM's daemons write into a job's log when they end it.
_SAID = re.compile(r"\*\*\* (?P<what>JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?P<why> DUE TO .*?)? \*\*\*")
# A file server that went away, or was started anew.
_FILE_SERVER = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO}
_OF_SLURM: dict[str, Kind] = {
    "PREEMPTION": "preempted",
    "TIME LIMIT": "time_limit",
    "NODE FAILURE": "node_failure",
    "JOB REQUEUE": "requeued",
}
_OF_CLASS: dict[str, Kind] = {
    "Diverged": "diverged",
    "Hang": "hang",
    "DiskFull": "disk_full",
    "RunInUse": "in_use",
    "ConfigError": "configuration",
    "CheckpointError": "configuration",
    "FileError": "configuration",
    "DataError": "data",
    "OutOfMemoryError": "out_of_gpu_memory",
    "MemoryError": "out_of_memory",
    "DistBackendError": "collective",
    "DistNetworkError": "collective",
    "DistStoreError": "collective",
    "ConnectionError": "data_source",
    "OfflineModeIsEnabled": "data_source",
    "LocalEntryNotFoundError": "data_source",
}
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


@dataclass(frozen=True)
class Evidence:
    """What is known of an attempt's end.

    Attributes:
        outcome: what the run wrote itself (outcome.json), or None.
        exit_code: of the run's process or of srun; above 128: 128 + a signal; negative: a signal.
        log: the tail of the attempt's standard error.
        job_log: the tail of the job's standard error since this start, where SLURM's daemons write.
        run_error: what the run's state.json says of its end.
        has_started: whether the run began at all.
        ending: why SLURM is ending the job, if its log does not say it.
    """

    outcome: Outcome | None = None
    exit_code: int | None = None
    log: str = ""
    job_log: str = ""
    run_error: str = ""
    has_started: bool = True
    ending: Kind | None = None

    @property
    def ended_by_slurm(self) -> Kind | None:
        return slurm_end_reason(self.job_log) or self.ending

    @property
    def signal(self) -> int | None:
        """The signal that ended the process."""
        code = self.exit_code or 0
        return -code if code < 0 else code - 128 if code > 128 else None


@dataclass(frozen=True)
class _Error:
    """An error that the run reported itself; `names`: its class, and those of the errors behind it, nearest first."""

    names: tuple[str, ...]
    message: str
    errno: int | None
    files: tuple[str, ...]

    @property
    def is_in_user_code(self) -> bool:
        own = [file for file in self.files if "site-packages" not in file and "/lib/python" not in file]
        return bool(own) and "/hyperformer/" not in own[-1] and "/launchers/" not in own[-1]


_GENERAL = ("RuntimeError", "OSError")
_ErrorRule = tuple[Kind, Callable[[_Error], object]]
# Of an error that the run reported: the first rule that applies. The rules after the class are for errors of general
# classes, which only their message tells apart.
_BEFORE_CLASS: tuple[_ErrorRule, ...] = (
    ("disk_full", lambda error: error.errno in FULL),
    ("data_source", lambda error: error.errno in _FILE_SERVER or any(map(_SOURCE.search, error.names[1:]))),
    ("out_of_gpu_memory", lambda error: _GPU_MEMORY.search(error.message)),
    ("out_of_memory", lambda error: _MEMORY.search(error.message)),
    ("gpu_failure", lambda error: _GPU.search(error.message)),
)
_AFTER_CLASS: tuple[_ErrorRule, ...] = (
    ("collective", lambda error: error.names[0] in _GENERAL and _COLLECTIVE.search(error.message)),
    ("data_source", lambda error: _SOURCE.search(" ".join([*error.names, error.message]))),
    ("user_code", lambda error: error.is_in_user_code),
    ("bug", lambda error: True),
)

# Of an end that the run did not report: the first rule that applies.
_UNREPORTED: tuple[tuple[Kind, Callable[[Evidence], object]], ...] = (
    ("in_use", lambda end: end.exit_code == TAKEN_OVER_EXIT),
    (
        "hang",
        lambda end: end.exit_code == HANG_EXIT or end.run_error.startswith("Hang:") or _HANG.search(end.log),
    ),
    ("disk_full", lambda end: end.run_error.startswith("DiskFull:")),
    ("out_of_gpu_memory", lambda end: _GPU_MEMORY.search(end.log) or _GPU_MEMORY.search(end.job_log)),
    ("out_of_memory", lambda end: _MEMORY.search(end.log) or _MEMORY.search(end.job_log)),
    ("gpu_failure", lambda end: _GPU.search(end.log)),
    ("hang", lambda end: _WAITED.search(end.log)),
    ("collective", lambda end: _NCCL.search(end.log)),
    # It was asked to stop before it handled signals: as when SLURM preempts a job in its first second.
    ("preempted", lambda end: not end.has_started and end.signal in (signal.SIGTERM, signal.SIGUSR2)),
    ("set_up", lambda end: not end.has_started),
    ("killed", lambda end: True),
)


def classify(evidence: Evidence) -> Failure | None:
    """The kind of failure; None for an attempt that ended well."""
    outcome, by_slurm = evidence.outcome, evidence.ended_by_slurm
    if outcome and outcome.status == "done":
        return None
    if outcome and outcome.status == "paused":
        return Failure("paused", outcome.message)
    if outcome and outcome.status == "stopped":
        return Failure(by_slurm or _asked_to_stop(outcome), outcome.message)
    if by_slurm:  # also what fails in a job that SLURM is ending
        return Failure(by_slurm, _last_line(evidence))
    if outcome and outcome.status == "failed":
        return _beyond_a_lost_rank(_reported_failure(outcome), evidence)
    kind = next(kind for kind, applies in _UNREPORTED if applies(evidence))
    message = _MESSAGES.get(kind, _last_line)(evidence)
    return Failure(kind, message, _fingerprint(kind, message, ()))


def slurm_end_reason(job_log: str) -> Kind | None:
    """Why SLURM ended the job, by its own lines in the log; None if it did not.

    A line on the step alone is no end of the job: a preemption with a grace time begins
    with one, and any signal sent to the step leaves the same line.
    """
    found: Kind | None = None
    for match in _SAID.finditer(job_log):
        if match["what"] == "JOB":
            why = (match["why"] or "").removeprefix(" DUE TO ")
            known = (kind for word, kind in _OF_SLURM.items() if why.startswith(word))
            found = next(known, "requeued") if why else "cancelled"
    return found


def _asked_to_stop(outcome: Outcome) -> Kind:
    """The job was not cancelled, so the signal came ahead of a time limit, or of a preemption."""
    return "time_limit" if outcome.signal == signal.SIGUSR2 else "preempted"


def _reported_failure(outcome: Outcome) -> Failure:
    """The kind of a failure that the run reported itself."""
    name = outcome.error_type or ""
    frames = list(_FRAME.finditer("\n".join(outcome.traceback_tail)))
    files = tuple(match["file"] for match in frames)
    kind = _kind_of(_Error((name, *outcome.causes), outcome.message, outcome.errno, files))
    places = [f"{match['file'].rpartition('/')[2]}:{match['function']}" for match in frames]
    return Failure(kind, f"{name}: {outcome.message}", _fingerprint(name, outcome.message, places))


def _kind_of(error: _Error) -> Kind:
    of_class = next((_OF_CLASS[name] for name in error.names if name in _OF_CLASS), None)
    by_class: tuple[_ErrorRule, ...] = ((of_class, lambda error: True),) if of_class else ()
    rules = (*_BEFORE_CLASS, *by_class, *_AFTER_CLASS)
    return next(kind for kind, applies in rules if applies(error))


def _beyond_a_lost_rank(failure: Failure, evidence: Evidence) -> Failure:
    """The failure of the rank that died, which reports nothing itself; the others report the lost connection."""
    if failure.kind != "collective":
        return failure
    if evidence.run_error.startswith("Hang:"):
        return replace(failure, kind="hang", message=evidence.run_error)
    if _MEMORY.search(evidence.job_log):
        return replace(failure, kind="out_of_memory", message=_memory_words(evidence))
    return replace(failure, kind="killed") if evidence.signal == signal.SIGKILL else failure


def _last_line(evidence: Evidence) -> str:
    return last_log_line(evidence.log) or last_log_line(evidence.job_log)


def _memory_words(evidence: Evidence) -> str:
    """What SLURM or the kernel say of memory, in the words of the settings."""
    both = f"{evidence.log}\n{evidence.job_log}"
    match = _USED.search(both)
    if match:
        used, allowed = (int(match[name]) / 2**30 for name in ("used", "allowed"))
        return f"it used {used:.3g} GB of memory and asked for {allowed:.3g}"
    if _KERNEL.search(both):
        return "the kernel killed one of its processes: the job had used the memory that it asked for"
    return _last_line(evidence)


def _killed_words(evidence: Evidence) -> str:
    names = {item.value: item.name for item in signal.Signals}
    if evidence.signal is not None:
        ending = f"ended by {names.get(evidence.signal, f'signal {evidence.signal}')}"
    else:
        ending = (
            "ended without a message"
            if evidence.exit_code is None
            else f"ended with exit code {evidence.exit_code}"
        )
    last = _last_line(evidence)
    return f"{ending}; {last}" if last else ending


_MESSAGES: dict[Kind, Callable[[Evidence], str]] = {
    "hang": lambda end: end.run_error or _last_line(end),
    "disk_full": lambda end: end.run_error,
    "out_of_memory": _memory_words,
    "killed": _killed_words,
}


def _fingerprint(name: str, message: str, places: Sequence[str]) -> str:
    """Equal for the same error at the same place; '' if its cause is not known.

    Numbers and paths in the message differ from run to run.
    """
    words = "" if places else re.sub(r"/\S+|\d+", "", message)
    if not places and not words.strip():
        return ""
    return hashlib.sha256("\n".join([name, words, *places]).encode()).hexdigest()[:12]
