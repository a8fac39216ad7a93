"""Kinds of failure, and how to tell them apart. Pure: reads nothing but what it is given.

An attempt's end is told by several witnesses, the best first: what the run
itself wrote (its outcome), what SLURM's daemons wrote into its log, the exit
code of srun, and the tail of its log.
"""

from __future__ import annotations

import errno
import hashlib
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyperformer.disk_space import FULL
from hyperformer.errors import HANG_EXIT, TAKEN_OVER_EXIT
from launchers.plan.failure_kinds import Failure, Kind
from launchers.store.attempts import Outcome, last_words

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
_NCCL = re.compile(r"ProcessGroupNCCL|NCCL (error|WARN)|Watchdog caught collective", re.I)
_GPU = re.compile(
    r"uncorrectable ECC|device\(s\) is/are busy|no CUDA-capable device|GPU is lost|fallen off the bus"
    r"|hardware error|CUDA driver initialization failed",
    re.I,
)
_HANG = re.compile(r"^Timeout \(\d+:\d\d:\d\d", re.M)  # faulthandler's words
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
_OF_TYPE: dict[str, Kind] = {
    "Diverged": "diverged",
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
    """

    outcome: Outcome | None = None
    exit_code: int | None = None
    log: str = ""
    job_log: str = ""
    run_error: str = ""
    has_started: bool = True


def classify(evidence: Evidence) -> Failure | None:
    """The kind of failure; None for an attempt that ended well."""
    outcome = evidence.outcome
    if outcome and outcome.status == "done":
        return None
    said = slurm_said(evidence.job_log)
    if outcome and outcome.status == "stopped":
        return Failure(_why_stopped(outcome, said), outcome.message)
    if outcome and outcome.status == "failed" and said is None:
        return _beyond_a_lost_rank(_told(outcome), evidence)
    kind, message = _untold(evidence, said)
    return Failure(kind, message, _fingerprint(kind, message, ()))


def slurm_said(job_log: str) -> Kind | None:
    """Why SLURM ended the job, by its own lines in the log; None if it did not.

    A line on the step alone is no end of the job: so a preemption with a grace
    time begins, and whoever sends a signal to the step leaves the same line.
    """
    found: Kind | None = None
    for match in _SAID.finditer(job_log):
        if match["what"] == "JOB":
            why = (match["why"] or "").removeprefix(" DUE TO ")
            known = (kind for word, kind in _OF_SLURM.items() if why.startswith(word))
            found = next(known, "requeued") if why else "cancelled"
    return found


def _why_stopped(outcome: Outcome, said: Kind | None) -> Kind:
    if said is not None:
        return said
    # Nobody cancelled the job: the signal came ahead of a time limit, or of a preemption.
    return "time_limit" if outcome.signal == signal.SIGUSR2 else "preempted"


def _told(outcome: Outcome) -> Failure:
    """The kind of a failure that the run told itself."""
    message, name = outcome.message, outcome.error_type or ""
    frames = list(_FRAME.finditer("\n".join(outcome.traceback_tail)))
    files = [match["file"] for match in frames]
    kind = _kind_of_error([name, *outcome.causes], message, outcome.errno, files)
    places = [f"{match['file'].rpartition('/')[2]}:{match['function']}" for match in frames]
    return Failure(kind, f"{name}: {message}", _fingerprint(name, message, places))


def _beyond_a_lost_rank(failure: Failure, evidence: Evidence) -> Failure:
    """A rank that dies without a word leaves it to the others to complain of the connection."""
    if failure.kind != "collective":
        return failure
    if _MEMORY.search(evidence.job_log):
        return replace(failure, kind="out_of_memory")
    if evidence.exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return replace(failure, kind="killed")
    return failure


def _kind_of_error(causes: Sequence[str], message: str, number: int | None, files: Sequence[str]) -> Kind:
    if number in FULL:
        return "disk_full"
    if number in _FILE_SERVER or any(_SOURCE.search(cause) for cause in causes[1:]):
        return "data_source"
    if _GPU_MEMORY.search(message):
        return "out_of_gpu_memory"
    if _MEMORY.search(message):
        return "out_of_memory"
    if _GPU.search(message):
        return "gpu_failure"
    for cause in causes:
        if cause in _OF_TYPE:
            return _OF_TYPE[cause]
    if causes[0] in ("RuntimeError", "OSError") and _COLLECTIVE.search(message):
        return "collective"
    if _SOURCE.search(" ".join([*causes, message])):
        return "data_source"
    own = [file for file in files if "site-packages" not in file and "/lib/python" not in file]
    ours = not own or "/hyperformer/" in own[-1] or "/launchers/" in own[-1]
    return "bug" if ours else "user_code"


def _untold(evidence: Evidence, said: Kind | None) -> tuple[Kind, str]:
    """The kind of a death without a word."""
    last = last_words(evidence.log) or last_words(evidence.job_log)
    code = evidence.exit_code
    both = f"{evidence.log}\n{evidence.job_log}"
    if said is not None:
        return said, last
    if code == TAKEN_OVER_EXIT:
        return "in_use", last
    if code == HANG_EXIT or evidence.run_error.startswith("Hang:") or _HANG.search(evidence.log):
        return "hang", evidence.run_error or last
    if evidence.run_error.startswith("DiskFull:"):
        return "disk_full", evidence.run_error
    if _GPU_MEMORY.search(both):
        return "out_of_gpu_memory", last
    if _MEMORY.search(both):
        return "out_of_memory", last
    if _GPU.search(evidence.log):
        return "gpu_failure", last
    if _NCCL.search(evidence.log):
        return "collective", last
    if not evidence.has_started:
        return "set_up", last
    if code is not None and (code < 0 or code > 128):
        number = -code if code < 0 else code - 128
        names = {item.value: item.name for item in signal.Signals}
        return "killed", f"ended by {names.get(number, f'signal {number}')}{f'; {last}' if last else ''}"
    told = "ended without a word" if code is None else f"ended with exit code {code}"
    return "killed", f"{told}{f'; {last}' if last else ''}"


def _fingerprint(name: str, message: str, places: Sequence[str]) -> str:
    """Equal for the same error at the same place; numbers and paths in the message differ from run to run."""
    words = "" if places else re.sub(r"/\S+|\d+", "", message)
    return hashlib.sha256("\n".join([name, words, *places]).encode()).hexdigest()[:12]
