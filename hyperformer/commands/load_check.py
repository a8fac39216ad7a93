"""Load what a sweep needs, in a process of its own: see :mod:`launchers.submit.prefetch`.

Standard input: JSON, name -> settings of a run that needs it. With ``only_task`` among the
settings that task's rows are loaded, else the tokenizer, or the model. Standard output ends
with ``FAULTS`` and JSON, name -> why it cannot be loaded.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.build import build_model
from hyperformer.data.label_checks import check_labels
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import get_task, load_user_tasks
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import RunConfig


def load(name: str, settings: dict[str, Any]) -> None:
    """Load one thing just as a run would. Raises what the run would raise."""
    task = settings.pop("only_task", None)
    config = make_config(settings, where=name)
    if task is not None:
        _load_task(config, task)
    elif name.startswith("model "):
        load_tokenizer(config.model)
        build_model(config)
    else:
        load_tokenizer(config.model)


def _load_task(config: RunConfig, name: str) -> None:
    own = load_user_tasks(config.data.task_file) if config.data.task_file else {}
    task, tokenizer = get_task(name, own), load_tokenizer(config.model)
    check_labels(task, tokenizer, method=config.training.decode, max_tokens=config.data.max_target_length)
    for split in config.splits:
        load_split(task, split, config.data)


def main() -> None:
    faults = {}
    for name, settings in json.load(sys.stdin).items():
        try:
            load(name, settings)
        except Exception as error:
            faults[name] = (str(error).splitlines() or [type(error).__name__])[0][:400]
    print("FAULTS " + json.dumps(faults))


if __name__ == "__main__":
    main()
