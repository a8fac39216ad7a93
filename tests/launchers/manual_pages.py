"""The environment variables in SLURM's manual pages; none where SLURM is not installed."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

PAGES = ("sbatch", "srun", "squeue", "scancel", "sacct", "scontrol", "sinfo", "sacctmgr")
# sbatch 22.05 sets these for a job with the options of their names, though its page does not list them.
_OF_SBATCH = {"SLURM_ACCTG_FREQ", "SLURM_CPU_FREQ_REQ", "SLURM_HINT", "SLURM_MEM_BIND", "SLURM_OPEN_MODE"}
# What a job is, and not how srun is to start it.
_OF_THE_JOB = {"SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_CONF", "SLURM_DEBUG_FLAGS", "SLURM_UMASK"}


def variables(*pages: str, output: bool = False) -> set[str]:
    """What these commands read from the environment, or with `output` what they set in a job's."""
    found: set[str] = set()
    for name in pages:
        page = Path(f"/usr/share/man/man1/{name}.1.gz")
        text = gzip.decompress(page.read_bytes()).decode(errors="replace") if page.exists() else ""
        for title, section in re.findall(
            r'(?ms)^\.SH "?([A-Z ]*ENVIRONMENT VARIABLES)"?$(.*?)(?=^\.SH)', text
        ):
            if title.startswith("OUTPUT") == output:
                found |= set(re.findall(r"(?m)^(?:\.B |\\fB)(\w+)", section.replace(r"\_", "_")))
    return {name for name in found if re.fullmatch(r"S[A-Z]+_\w+", name)}


def read_by_srun_only() -> set[str]:
    """Variables that alter srun in a job, and that SLURM does not set there itself."""
    return variables("srun") - variables("sbatch", output=True) - _OF_SBATCH - _OF_THE_JOB
