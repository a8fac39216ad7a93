"""The model card that is written beside a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperformer.adapters.parameters import published_t5
from hyperformer.settings.schema import AdapterConfig

SHIPPED = "toy"
"""The T5 that is part of this package."""

_CITATION = """```bibtex
@inproceedings{karimi-mahabadi-etal-2021-parameter,
  title = {Parameter-efficient Multi-task Fine-tuning for Transformers via Shared Hypernetworks},
  author = {Karimi Mahabadi, Rabeeh and Ruder, Sebastian and Dehghani, Mostafa and Henderson, James},
  booktitle = {Proceedings of ACL-IJCNLP 2021},
  year = {2021}
}
```"""

_KINDS = {
    "none": "T5 itself was trained; there are no adapters",
    "task": "one adapter a task",
    "hypernetwork_per_layer": "adapters generated from task embeddings by a hypernetwork a layer",
    "hypernetwork_per_block_type": "adapters generated from task embeddings by a hypernetwork a stack and block type",
    "hypernetwork_shared": "adapters generated from task, layer and position embeddings by one hypernetwork a stack",
}


def model_card(
    *,
    base: str | None,
    tasks: list[str],
    adapter: AdapterConfig,
    parameters: int,
    variant: str | None = None,
    result: dict[str, Any] | None = None,
) -> str:
    """The text of README.md.

    Args:
        base: name of the T5 underneath; None for a whole model.
        parameters: how many are in the folder's weights.
        variant: name of the tuning method.
        result: content of the run's result.json.
    """
    facts = [
        *([f"- base model: {_shown(base)}"] if base else []),
        *([f"- variant: {variant}"] if variant else []),
        f"- kind: {_KINDS[adapter.adapter]}",
        f"- tasks: {', '.join(tasks) or 'not recorded'}",
        f"- parameters in these files: {parameters:,}",
    ]
    if result:
        trained = result["parameters"]
        facts.append(
            f"- trained: {trained['trained']:,} of {trained['total']:,} parameters "
            f"({trained['trained_percent_per_task']:.2f}% of T5 a task); seed {result['seed']}"
        )
    parts = [_front_matter(base), "# T5 with HyperFormer", "\n".join(facts), *_metrics(result, tasks)]
    parts += ["## Use", _use(tasks, base), "## Citation", _CITATION]
    return "\n\n".join(parts) + "\n"


def _on_hub(base: str) -> bool:
    """Whether the name says a repository on the hub, as far as can be told without asking."""
    if published_t5(base) is not None:
        return True
    return base.count("/") == 1 and not base.startswith((".", "~", "/")) and not Path(base).exists()


def _shown(base: str) -> str:
    # A folder's place on the machine that trained says nothing to anybody else.
    return base if _on_hub(base) else Path(base).name


def _front_matter(base: str | None) -> str:
    lines = ["---", "library_name: hyperformer", "tags:", "- t5", "- hyperformer"]
    if base and _on_hub(base):
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "---"])


def _metrics(result: dict[str, Any] | None, tasks: list[str]) -> list[str]:
    """A heading and a table, or nothing where nothing was measured."""
    rows = []
    for split in ("validation", "test"):
        for task, values in (result or {}).get(split, {}).items():
            if task in tasks:
                rows += [f"| {task} | {split} | {name} | {value:.2f} |" for name, value in values.items()]
    if not rows:
        return []
    return [
        "## Metrics",
        "\n".join(["| task | split | metric | value (%) |", "| --- | --- | --- | ---: |", *rows]),
    ]


def _use(tasks: list[str], base: str | None) -> str:
    task = tasks[0] if tasks else "rte"
    lines = ["FOLDER is this folder, or this repository's name on the hub."]
    if base is not None and base != SHIPPED and not _on_hub(base):
        lines.append(
            f"The base model, {_shown(base)!r}, is none of the hub's: say where it is, by `--base` or `base=`."
        )
    return (
        " ".join(lines)
        + f"\n\n```bash\nhyperformer predict FOLDER --task {task} --input rows.jsonl --output answers.jsonl\n```\n\n"
        "```python\n"
        "from hyperformer.adapters.whole import load_trained\n"
        "from hyperformer.commands.predict import Predictor\n\n"
        'trained = load_trained("FOLDER")  # trained.model is the torch module\n'
        f'print(Predictor(trained, "{task}").answers(["a source text"]))\n'
        "```"
    )
