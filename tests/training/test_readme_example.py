"""The README's run on built-in data, exactly as it stands there: it learns."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from places import ROOT


def test_the_toy_run_of_the_readme_learns(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^OMP_NUM_THREADS=1 hyperformer train ((?:.*\\\n)*.*)$", text, re.M)
    words = shlex.split(command.replace("\\\n", " "))
    done = subprocess.run(
        [sys.executable, "-m", "hyperformer.cli", "train", *words, "output_dir=run", f"cache_dir={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["test"]["toy-acceptability"]["mcc"] > 80  # chance is 0
