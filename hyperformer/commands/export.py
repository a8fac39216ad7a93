"""The adapters of one task as static weights, which need no hypernetwork."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path

import torch
from torch import Tensor

from hyperformer.adapter_folder import adapter_files
from hyperformer.adapters.hooks import STACKS
from hyperformer.adapters.hub import CARD_NAME, TASKS_NAME
from hyperformer.adapters.methods.method import ADDED
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.model_card import ModelCard
from hyperformer.adapters.record import plain_settings, read_record
from hyperformer.adapters.save import read_safetensors, write_adapter
from hyperformer.adapters.trained_model import TrainedModel, load_trained, save_model
from hyperformer.errors import ConfigError
from hyperformer.files import new_folder, read_json
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig

_WITH_PEFT = """
## With peft alone

```python
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained("T5"), "FOLDER")  # T5: the base model above
```
"""


def export_task(name: str | Path, task: str, output: Path, base: str | None = None) -> None:
    """Write a model of `task` alone that computes the same: an adapter from an adapter, a whole model from one.

    Args:
        name: folder or repository of the trained model.
        output: the folder to make.
        base: as in :func:`~hyperformer.adapters.trained_model.load_trained`.

    Raises:
        CheckpointError: the model cannot be loaded, or `output` is there already.
        ConfigError: it has no such task, or no adapters.
    """
    trained = load_trained(name, base)
    if METHODS[trained.model.config.adapter_config.adapter].extra:
        _export_to_peft(trained, task, output)
        return
    static = static_model(trained.model, task)
    with new_folder(output) as folder:
        if not trained.is_adapter:
            save_model(static, folder, files_of=trained.folder)
            return
        files = adapter_files(trained.folder)
        record = read_record(files.config)
        weights = read_safetensors(files.weights)
        t5 = {name: value for name, value in weights.items() if not name.startswith(ADDED)}
        record = dataclasses.replace(
            record, tasks=[task], adapter_settings=plain_settings(static.config.adapter_config)
        )
        write_adapter(
            folder,
            {**t5, **_adapters(static)},
            record,
            task_file=trained.task_file,
            # In a run's folder, result.json is beside adapter/.
            result=read_json(trained.folder.parent / "result.json"),
        )


def _export_to_peft(trained: TrainedModel, task: str, output: Path) -> None:
    """Write a folder that peft loads without us."""
    from hyperformer.adapters.peft_bridge.folder import write_peft_folder

    trained.model.task_id(task)
    with new_folder(output) as folder:
        record = read_record(adapter_files(trained.folder).config)
        count = write_peft_folder(trained.model, task, record, folder)
        result = read_json(trained.folder.parent / "result.json")
        card = ModelCard(
            record.base_model_name_or_path, [task], record.adapter, count, record.variant, result
        )
        (folder / CARD_NAME).write_text(card.text() + _WITH_PEFT, encoding="utf-8")
        if trained.task_file is not None:
            shutil.copyfile(trained.task_file, folder / TASKS_NAME)


def _adapters(model: HyperformerT5) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if name.startswith(ADDED)}


@torch.no_grad()
def static_model(model: HyperformerT5, task: str) -> HyperformerT5:
    """A model of `task` alone, of the kind `adapter: task`, that computes what `model` computes for it.

    Raises:
        ConfigError: `model` has no such task, or no adapters.
    """
    kind = model.config.adapter_config.adapter
    if model.adapters is None:
        raise ConfigError("this model has no adapters: T5 itself was trained, and is static already")
    if model.method.static is None:
        raise ConfigError(f"adapter is {kind}: {METHODS[kind].words}; a task has no static weights to export")
    number = model.task_id(task)
    sites = {stack: [site for site in model.adapters(stack, number) if site is not None] for stack in STACKS}
    weights = sites["encoder"][0]
    values = dataclasses.asdict(model.config.adapter_config)
    values = {key: value for key, value in values.items() if key in METHODS[model.method.static].options}
    values |= {
        "adapter": model.method.static,
        "adapters": None,
        # Generated layer norms are plain ones once they are generated.
        "add_layer_norm_before_adapter": weights.pre_norm_weight is not None,
        "add_layer_norm_after_adapter": weights.post_norm_weight is not None,
    }
    config = copy.deepcopy(model.config)
    config.tasks, config.adapter_settings = [task], plain_settings(AdapterConfig(**values))
    static = HyperformerT5(config)
    if model.has_own_lm_head:
        static.untie_lm_head()
    assert static.adapters is not None
    ours = dict(static.named_parameters())
    for name, parameter in model.named_parameters():
        if not name.startswith(ADDED):
            ours[name].copy_(parameter)
    for stack in STACKS:
        for field in weights._fields:
            found = [getattr(site, field) for site in sites[stack]]
            if found[0] is not None:
                _parameter(static, stack, field).copy_(torch.stack(found))
    return static.eval()


def _parameter(model: HyperformerT5, stack: str, field: str) -> Tensor:
    """Where a model of one task keeps a field of SiteWeights for all sites of a stack: (N, ...)."""
    assert model.adapters is not None
    module = model.adapters.stacks[stack]
    if "norm" in field:
        return module.get_parameter(f"norms.{field}")
    return module.get_parameter(field)[0]
