"""Where the tests find what is not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIXTURES = Path(__file__).parent / "fixtures"


def _outside(variable: str, default: str) -> Path | None:
    """A folder named by an environment variable, or beside the checkout; None if there is none."""
    folder = Path(os.environ.get(variable, ROOT.parent / default)).resolve()
    return folder if folder.is_dir() else None


REFERENCE = _outside("HYPERFORMER_REFERENCE", "shared/reference")
REAL_DATA = _outside("HYPERFORMER_DATA", "shared/data/glue")


def reference_settings() -> list[Path]:
    """Folders with what the authors' code computes: the committed ones, and all others where they are."""
    folders = {path.name: path for path in sorted((FIXTURES / "reference" / "model").iterdir())}
    if REFERENCE is not None:
        folders |= {path.name: path for path in sorted((REFERENCE / "model").iterdir())}
    return list(folders.values())
