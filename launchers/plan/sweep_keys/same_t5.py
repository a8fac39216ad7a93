"""Whether two runs have one T5, as far as names and files tell. Loads no model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperformer.adapters.bases.families import TOY, TOY_FOLDER
from hyperformer.files import read_json


def other_t5(theirs: str, ours: str) -> str:
    """Why the T5 that `ours` names is not that of `theirs`, in words; '' where nothing tells.

    A name on the hub and a folder can be one T5: then the job itself compares the weights.
    """
    there, here = _folder(theirs), _folder(ours)
    if theirs == ours or (there is None) != (here is None) and TOY not in (theirs, ours):
        return ""
    if there is None or here is None:
        return f"{theirs!r} there, {ours!r} here"
    from hyperformer.data.contents import weight_hashes

    weights = weight_hashes(there), weight_hashes(here)
    differ = all(weights) and sorted(weights[0].values()) != sorted(weights[1].values())
    return f"the weights in {there} and {here} differ" if differ else ""


def other_sizes(theirs: Mapping[str, Any], ours: str) -> str:
    """Which of the sizes of a T5 the one that `ours` names does not have, in words; '' where nothing tells."""
    folder = _folder(ours)
    config = _config(folder) if folder else {}
    # Numbers alone: other settings may be spelled in another way in the file.
    sizes = [key for key, value in theirs.items() if type(value) is int and type(config.get(key)) is int]
    other = [key for key in sizes if config[key] != theirs[key]]
    return ", ".join(f"{key} is {theirs[key]!r} there, {config[key]!r} here" for key in other)


def _folder(name: str) -> Path | None:
    """The folder of a model; None: it is a name on the hub, or not on this machine."""
    if name == TOY:
        return TOY_FOLDER
    return Path(name) if os.path.isabs(name) and os.path.isdir(name) else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / "config.json")
    except (OSError, ValueError):  # whoever loads the model says so
        return {}
    return found if isinstance(found, dict) else {}
