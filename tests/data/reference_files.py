"""What the authors' code computes: all of it where it is, the committed part elsewhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from places import FIXTURES, REFERENCE

COMMITTED = FIXTURES / "reference"


def reference_path(name: str) -> Path:
    """A file of the reference folder: 'data/splits.json'."""
    if REFERENCE is not None and (REFERENCE / name).exists():
        return REFERENCE / name
    return COMMITTED / name


def reference(name: str) -> Any:
    """The content of a JSON file of the reference folder."""
    return json.loads(reference_path(name).read_text(encoding="utf-8"))


def sha256(indices: np.ndarray) -> str:
    """The authors' fixtures give row lists by the hash of the comma-joined numbers."""
    return hashlib.sha256(",".join(map(str, indices.tolist())).encode()).hexdigest()
