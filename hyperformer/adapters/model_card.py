"""The model card that is written beside a trained model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.adapters.bases.families import TOY
from hyperformer.adapters.bases.published import published_t5
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig

_CITATION = """```bibtex
@inproceedings{karimi-mahabadi-etal-2021-parameter,
  title = {Parameter-efficient Multi-task Fine-tuning for Transformers via Shared Hypernetworks},
  author = {Karimi Mahabadi, Rabeeh and Ruder, Sebastian and Dehghani, Mostafa and Henderson, James},
  booktitle = {Proceedings of ACL-IJCNLP 2021},
  year = {2021}
}
```"""

_AUTO_CLASSES = """

transformers' Auto classes know the model once `hyperformer.adapters.model` is imported. Without it they "do not
recognize this architecture"; a newer transformers does not help.

```python
import hyperformer.adapters.model
from transformers import AutoModelForSeq2SeqLM

model = AutoModelForSeq2SeqLM.from_pretrained("FOLDER")
```"""


@dataclass(frozen=True)
class ModelCard:
    """What README.md says of a trained model.

    Attributes:
        base: name of the base T5; None for a whole model.
        parameters: how many are in the folder's weights.
        variant: name of the tuning method.
        result: content of the run's result.json.
    """

    base: str | None
    tasks: list[str]
    adapter: AdapterConfig
    parameters: int
    variant: str | None = None
    result: dict[str, Any] | None = None

    def text(self) -> str:
        """The text of README.md."""
        parts = [_front_matter(self.base), "# T5 with HyperFormer", self._facts(), *self._metrics()]
        parts += ["## Use", self._use(), "## Citation", _CITATION]
        return "\n\n".join(parts) + "\n"

    def _facts(self) -> str:
        facts = [
            *([f"- base model: {_shown(self.base)}"] if self.base else []),
            *([f"- variant: {self.variant}"] if self.variant else []),
            f"- kind: {METHODS[self.adapter.adapter].words} ({METHODS[self.adapter.adapter].source})",
            f"- tasks: {', '.join(self.tasks) or 'not recorded'}",
            f"- parameters in these files: {self.parameters:,}",
        ]
        if self.result:
            trained = self.result["parameters"]
            facts.append(
                f"- trained: {trained['trained']:,} of {trained['total']:,} parameters "
                f"({trained['trained_percent_per_task']:.2f}% of T5 per task); seed {self.result['seed']}"
            )
        return "\n".join(facts)

    def _metrics(self) -> list[str]:
        """A heading and a table; nothing if nothing was measured."""
        rows = []
        for split in ("validation", "test"):
            for task, values in (self.result or {}).get(split, {}).items():
                if task in self.tasks:
                    rows += [f"| {task} | {split} | {name} | {value:.2f} |" for name, value in values.items()]
        if not rows:
            return []
        table = ["| task | split | metric | value (%) |", "| --- | --- | --- | ---: |", *rows]
        return ["## Metrics", "\n".join(table)]

    def _use(self) -> str:
        task = self.tasks[0] if self.tasks else "rte"
        lines = ["FOLDER is this folder, or the name of this repository on the hub."]
        if self.base is not None and self.base != TOY and not _on_hub(self.base):
            lines.append(
                f"The base model, {_shown(self.base)!r}, is not on the hub: say where it is, by `--base` or `base=`."
            )
        return (
            " ".join(lines) + "\n\n```bash\n"
            f"hyperformer predict FOLDER --task {task} --input rows.jsonl --output answers.jsonl\n"
            "```\n\n"
            "```python\n"
            "from hyperformer.adapters.trained_model import load_trained\n"
            "from hyperformer.commands.predict import Predictor\n\n"
            'trained = load_trained("FOLDER")  # trained.model is the torch module\n'
            f'print(Predictor(trained, "{task}").answers(["a source text"]))\n'
            "```"
        ) + ("" if self.base is not None else _AUTO_CLASSES)


def _on_hub(base: str) -> bool:
    """Whether `base` names a repository on the hub, as far as is known without asking it."""
    if published_t5(base) is not None:
        return True
    return base.count("/") == 1 and not base.startswith((".", "~", "/")) and not Path(base).exists()


def _shown(base: str) -> str:
    # The path on the machine that trained means nothing to other people.
    return base if _on_hub(base) else Path(base).name


def _front_matter(base: str | None) -> str:
    lines = ["---", "library_name: hyperformer", "tags:", "- t5", "- hyperformer"]
    if base and _on_hub(base):
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "---"])
