"""What decides the token ids of a split. Two splits with one key have the same ids."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hyperformer.data.splits import LIMITS
from hyperformer.data.tasks.task import SPLITS, Task
from hyperformer.settings.schema import DataConfig

OF_SAMPLING = (
    "tasks", "mixing", "temperature", "task_weights", "mixing_cap", "group_by_length", "reference_sampler", "cache_dir",
)  # fmt: skip
"""Settings of the section `data` that change nothing of a task's rows."""
# What these name counts by its content.
_NAMES = ("data_dir", "task_file")


def _code() -> str:
    """Hash of the code that makes token ids of files, and of the libraries that it reads with."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    libraries = [version(name) for name in ("numpy", "pyarrow", "tokenizers", "torch", "transformers")]
    return f"{digest.hexdigest()} {platform.python_version()} {libraries}"


# When it is imported, so that it is the code of this process, even if an upgrade replaces the files.
_CODE = _code()


def key(tokenizer: Any, *told: Any) -> str:
    """32 hex digits: of the code, the tokenizer, and the other values given (plain JSON)."""
    text = json.dumps([_CODE, _identity(tokenizer), *told], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def settings_of_rows(settings: DataConfig, split: str) -> dict[str, Any]:
    """The settings that decide which rows a split has, and how many tokens of them are kept."""
    others = [LIMITS[other] for other in SPLITS if other != split]
    left_out = (*OF_SAMPLING, *_NAMES, *others)
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in left_out}


def definition(task: Task) -> str:
    """All of a task, but the place of its file."""
    return repr(dataclasses.replace(task, file=None))


def _identity(tokenizer: Any) -> str:
    """Hash of what decides how texts are cut: vocabulary, scores, normalisation, added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return _identity_of_backend(backend.to_str())
    # Written in Python, as ByT5's is.
    state = [type(tokenizer).__qualname__, tokenizer.get_vocab(), str(tokenizer.init_kwargs)]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=2)  # asked for every split of every task; T5's has 2.4 MB
def _identity_of_backend(state: str) -> str:
    told = json.loads(state)
    # These two change with every call.
    told.pop("truncation", None)
    told.pop("padding", None)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
