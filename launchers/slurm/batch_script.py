"""The batch script of a job array: ``batch_script.sh`` beside this file, filled in. Pure: same arguments, same text."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from launchers.plan.resources import Resources

# What the epilogue answers, as batch_script.sh reads it: the run starts again in this job; the script itself is to
# requeue the job.
RESTART_EXIT_CODE, REQUEUE_EXIT_CODE = 75, 76
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_TEMPLATE = Path(__file__).with_suffix(".sh")


def render(directives: Mapping[str, str | None], blocks: Mapping[str, str]) -> str:
    """The script.

    Args:
        directives: options of sbatch by long name; value None: a flag.
        blocks: shell text by the name of its place in the template. A place of its own line is `# @@name@@`.
    """
    placeholders = {**blocks, "directives": "\n".join(directive_lines(directives))}
    template = _TEMPLATE.read_text(encoding="utf-8")
    # One pass: what is filled in may hold the name of a place.
    return re.sub(r"(?m)^# @@(\w+)@@\n|@@(\w+)@@", lambda match: _fill(match, placeholders), template)


def directive_lines(directives: Mapping[str, str | None]) -> list[str]:
    """The lines of a batch script that hold options of sbatch, given by long name; value None: a flag."""
    return [
        f"#SBATCH --{name}" + ("" if value is None else f"={shlex.quote(value)}")
        for name, value in sorted(directives.items())
    ]


def _fill(match: re.Match[str], placeholders: Mapping[str, str]) -> str:
    if match[2]:
        return placeholders[match[2]]
    return f"{placeholders[match[1]]}\n" if placeholders[match[1]] else ""


def directives(resources: Resources) -> dict[str, str | None]:
    """The options of sbatch for the resources; `sbatch:` of the user comes last."""
    found: dict[str, object] = {
        "time": resources.time,
        "nodes": resources.nodes,
        "ntasks-per-node": resources.ranks_per_node,
        "cpus-per-task": resources.cpus_per_task,
        # 0: the whole node's.
        "mem": None if resources.mem_gb is None else f"{math.ceil(resources.mem_gb * 1024)}MB",
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "reservation": resources.reservation,
        "exclude": resources.exclude,
        "begin": resources.begin,
        "mail-user": resources.mail,
        "mail-type": "END,FAIL" if resources.mail else None,
        # A notice ahead of the limit, should an administrator shorten it: the run knows its deadline.
        "signal": f"USR2@{min(90, resources.time * 15)}",
    }
    asked = {name: str(value) for name, value in found.items() if value is not None}
    more = dict(resources.sbatch)
    for name, value in resources.gpu_request.items():
        asked[name] = ",".join(filter(None, [value, more.pop(name, None)]))
    # A node that fails must not cost the run, even where the site's default is not to requeue.
    return {**asked, "requeue": None, "open-mode": "append", **more}


def exports(variables: Mapping[str, str]) -> str:
    """Shell lines that set variables of the job."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def setup(commands: Sequence[str]) -> str:
    """The user's set-up commands; without the group's end bash would start the run after one that failed."""
    return "\n".join(
        f"{{\n{command}\n}} || {{ echo {shlex.quote(f'set-up failed: {command}')} >&2; exit 1; }}"
        for command in commands
    )


def srun_options(resources: Resources) -> list[str]:
    """The options of srun beside those in the template."""
    # Since SLURM 22.05 a step does not take this over from the job.
    cpus = [f"--cpus-per-task={resources.cpus_per_task}"] if resources.cpus_per_task else []
    return [*cpus, *resources.srun]
