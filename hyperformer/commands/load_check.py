"""Load what a sweep needs, in a process of its own: see :mod:`launchers.submit.prefetch`."""

from __future__ import annotations

import json
import sys
from typing import Any

from hyperformer.settings.build import make_config
from hyperformer.settings.schema import RunConfig


def load(name: str, settings: dict[str, Any]) -> None:
    """Load one thing just as a run would. Raises what the run would raise."""
    task = settings.pop("only_task", None)
    config = make_config(settings, where=name)
    if task is None:
        from hyperformer.adapters.build import build_model, load_tokenizer

        load_tokenizer(config.model)
        if name.startswith("model "):
            build_model(config)
        return
    _load_task(config, task)


def _load_task(config: RunConfig, name: str) -> None:
    from hyperformer.data.splits import load_split
    from hyperformer.data.tasks import get_task, load_user_tasks

    own = load_user_tasks(config.data.task_file) if config.data.task_file else {}
    for split in config.splits:
        load_split(get_task(name, own), split, config.data)


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
