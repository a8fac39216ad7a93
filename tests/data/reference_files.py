"""What the authors' code computes: all of it where it is, the committed part elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "tests" / "fixtures" / "reference"
OUTSIDE = Path(os.environ.get("HYPERFORMER_REFERENCE", ROOT.parent / "shared" / "reference"))


def reference_path(name: str) -> Path:
    """A file of the reference folder: 'data/splits.json'."""
    return OUTSIDE / name if (OUTSIDE / name).exists() else COMMITTED / name


def reference(name: str) -> Any:
    """The content of a JSON file of the reference folder."""
    return json.loads(reference_path(name).read_text(encoding="utf-8"))


def sha256(indices: np.ndarray) -> str:
    """The authors' fixtures give row lists by the hash of the comma-joined numbers."""
    return hashlib.sha256(",".join(map(str, indices.tolist())).encode()).hexdigest()
