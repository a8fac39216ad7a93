"""What sbatch is told for jobs of one shape. Pure: the same arguments give the same text."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launchers.plan.resources import Resources
from launchers.slurm.commands import ClusterError, outside_of_any_job, slurm_words

# What launchers.job.epilogue answers where the run starts again in the same job, and where the job should
# go back into the queue, but it cannot put it there itself.
AGAIN, REQUEUE = 75, 76
_OWN_ID = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def parameters(
    name: str,
    resources: Resources,
    python_path: str,
    record: Path,
    python: str,
    environment: Mapping[str, str] | None = None,
    parallel: int | None = None,
    after: str | None = None,
) -> dict[str, Any]:
    """What submitit's SLURM executor is told.

    Args:
        name: of the jobs.
        python_path: PYTHONPATH of the jobs: the code that they run.
        record: the submission's file, for :mod:`launchers.job.epilogue`.
        python: how to start python on a node.
        environment: further variables of the jobs.
        parallel: tasks of the array at once at most; None: as many as the cluster has room for.
        after: job id that must have ended before.
    """
    # A rank that dies takes the others with it, instead of leaving them to wait for it.
    srun = ["--kill-on-bad-exit=1"]
    if resources.cpus_per_task:
        # Since SLURM 22.05 a step does not take this over from the job.
        srun.append(f"--cpus-per-task={resources.cpus_per_task}")
    # A node that fails must not cost the run, also where the site's default is to let it go.
    further: dict[str, Any] = {"requeue": True}
    further |= {key: True if value is None else value for key, value in resources.sbatch}
    if resources.reservation:
        further["reservation"] = resources.reservation
    values = {
        "job_name": name,
        "time": resources.time,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.ranks_per_node,
        "gpus_per_node": resources.gpus_per_node or None,
        "cpus_per_task": resources.cpus_per_task,
        "mem": None if resources.mem_gb is None else f"{int(resources.mem_gb * 1024)}MB",
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "exclude": resources.exclude,
        "mail_user": resources.mail,
        "mail_type": "END,FAIL" if resources.mail else None,
        "dependency": f"afterany:{after}" if after else None,
        "array_parallelism": parallel or 1_000_000,
        # A notice ahead of the limit, should an administrator shorten it: the run knows its deadline.
        "signal_delay_s": min(90, resources.time * 15),
        "setup": [*_setup(resources, python_path, environment or {}), *_BEFORE],
        "teardown": _teardown(record, python),
        "srun_args": [*srun, *resources.srun],
        "additional_parameters": further or None,
    }
    return {key: value for key, value in values.items() if value is not None}


# submitit's srun line becomes the body of a function, so that it can be started again.
_BEFORE = [
    "# SLURM's wish to end the job goes to the run; this script ends after it.",
    "trap : TERM",
    "start() {",
]


def _teardown(record: Path, python: str) -> list[str]:
    """After the run: ask what to do, which may be to start again here, or to go back into the queue."""
    return [
        "}",
        f"code={AGAIN}",
        f'while [ "$code" -eq {AGAIN} ]; do',
        "    # What was in the job's log before is another start's.",
        '    export HYPERFORMER_LOG_FROM="$(stat -Lc %s /dev/fd/2 || echo 0)"',
        "    # Also under `set -e` of the set-up commands.",
        "    status=0; start || status=$?",
        "    trap '' TERM",
        f'    code=0; {python} -u -m launchers.job.epilogue {shlex.quote(str(record))} "$status" "$0" || code=$?',
        "    trap : TERM",
        "done",
        # A container has neither scontrol nor sbatch, so what it asks for is done out here.
        f'[ "$code" -ne {REQUEUE} ] || scontrol requeue "{_OWN_ID}"',
        'exit "$code"',
    ]


def _setup(resources: Resources, python_path: str, environment: Mapping[str, str]) -> list[str]:
    threads = {"OMP_NUM_THREADS": str(resources.cpus_per_task)} if resources.cpus_per_task else {}
    # Without the safe path `python -m` would take code in the folder that the sweep was submitted from.
    exports = {"PYTHONPATH": python_path, "PYTHONSAFEPATH": "1", **threads, **environment}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    # When SLURM will end the job, for the run to stop ahead of it; newer SLURMs tell it.
    ends = f"$(( $(date +%s) + {resources.time * 60} ))"
    lines.append(f'export HYPERFORMER_DEADLINE="${{SLURM_JOB_END_TIME:-{ends}}}"')
    if resources.setup:
        # sbatch goes on after a command that failed, and the run would start without its modules.
        lines.append('set_up_failed() { echo "set-up failed: $1" >&2; exit 1; }')
        for command in resources.setup:
            lines += ["{", command, f"}} || set_up_failed {shlex.quote(command)}"]
    return lines


# True while nodes are down or busy, too, and then a job may wait: sbatch itself decides.
_PASSING = ("node configuration is not available", "nodes are busy", "Resources temporarily unavailable")


def try_sbatch(text: str) -> tuple[str | None, str | None]:
    """Ask SLURM about an sbatch file without submitting it.

    Returns:
        (when it would start, what SLURM has against it).
    """
    try:
        with outside_of_any_job():
            done = subprocess.run(
                ["sbatch", "--test-only"], input=text, capture_output=True, text=True, timeout=60, check=False
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"SLURM does not answer: {error}") from error
    if any(words in done.stderr for words in _PASSING):
        return None, None
    if done.returncode:
        return None, slurm_words(done.stderr.strip())
    match = re.search(r"to start at (\S+)", done.stderr)
    return (_soon(match[1]) if match else None), None


def _soon(text: str) -> str:
    try:
        seconds = time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) - time.time()
    except ValueError:
        return f"at {text}"
    return "now" if seconds < 60 else f"at {text.replace('T', ' ')}"
