"""Folders of peft: written so that peft alone loads them, and read if peft wrote them.

Such a folder has ``adapter_config.json`` and ``adapter_model.safetensors``. Ours has ``hyperformer_task.json`` too,
which peft takes no notice of: how the sources were made, and of what weights the base is.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModelForSeq2SeqLM, PeftType, get_peft_model_state_dict

from hyperformer.adapter_folder import EARLIER_CONFIG, EARLIER_WEIGHTS
from hyperformer.adapters.bases.pretrained import load_base, load_t5_config
from hyperformer.adapters.hub import PEFT_TASK_NAME
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.peft_bridge.attach import HANDLE, hold
from hyperformer.adapters.record import AdapterRecord, base_fingerprint
from hyperformer.adapters.save import read_safetensors, write_safetensors
from hyperformer.adapters.t5.config import hyperformer_config
from hyperformer.errors import CheckpointError
from hyperformer.files import read_json, write_json
from hyperformer.settings.schema import AdapterConfig

TYPES = (
    PeftType.LORA, PeftType.IA3, PeftType.VERA, PeftType.PREFIX_TUNING, PeftType.PROMPT_TUNING, PeftType.P_TUNING,
)  # fmt: skip
"""What is read: DoRA is LORA with an option."""


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """What our folders say beside peft's config: as in AdapterRecord, of one task."""

    task: str
    task_prefix: bool
    max_source_length: int
    base_fingerprint: str | None
    tokenizer_name: str | None
    answer_settings: dict[str, Any] | None = None


def write_peft_folder(model: HyperformerT5, task: str, record: AdapterRecord, folder: Path) -> int:
    """Write a task's adapter as peft would; returns its number of parameters.

    Args:
        model: of a method that peft makes.
        record: of the adapter that it was loaded from.
    """
    model.method.select(model, model.task_id(task))
    handle: PeftModelForSeq2SeqLM = getattr(model, HANDLE)
    name = handle.active_adapter
    # Told not to look for T5's embeddings, it asks no hub.
    weights = get_peft_model_state_dict(handle, adapter_name=name, save_embedding_layers=False)
    write_safetensors(
        {key: value.detach().cpu().clone() for key, value in weights.items()}, folder / EARLIER_WEIGHTS
    )
    config = copy.deepcopy(handle.peft_config[name])
    config.base_model_name_or_path, config.inference_mode = record.base_model_name_or_path, True
    config.save_pretrained(str(folder))
    facts = TaskFacts(
        task,
        record.task_prefix,
        record.max_source_length,
        record.base_fingerprint,
        record.tokenizer_name,
        record.answer_settings,
    )
    write_json(folder / PEFT_TASK_NAME, dataclasses.asdict(facts))
    return sum(value.numel() for value in weights.values())


def read_peft_folder(folder: Path, base: str | None) -> tuple[HyperformerT5, str]:
    """The T5 of a peft folder with its adapter, for inference; and the name of its tokenizer.

    Args:
        base: the T5; default: the name in peft's config.

    Raises:
        CheckpointError: the folder is damaged, of a type that is not read here, or of another T5.
    """
    config = _config(folder)
    named = config.base_model_name_or_path
    if base is None and not named:
        raise CheckpointError(f"{folder}: {EARLIER_CONFIG} does not name its T5; give it by --base")
    base = base or str(named)
    facts = _facts(folder)
    t5 = hyperformer_config(load_t5_config(base), AdapterConfig(), (facts.task,) if facts else ())
    if facts:
        t5.task_prefix, t5.max_source_length = facts.task_prefix, facts.max_source_length
        t5.answer_settings = facts.answer_settings
    model = load_base(base, t5)
    _check_base(folder, facts, base, str(named or ""), model)
    _load(model, folder, config)
    return model.eval(), (facts and facts.tokenizer_name) or base


def _config(folder: Path) -> PeftConfig:
    path = folder / EARLIER_CONFIG
    kind = read_json(path)["peft_type"]
    if kind not in [one.value for one in TYPES]:
        raise CheckpointError(
            f"{path}: its type is {kind!r}; read here are {', '.join(one.value for one in TYPES)}"
        )
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: peft cannot read it: {error}") from error
    if config.task_type != "SEQ_2_SEQ_LM":
        raise CheckpointError(f"{path}: its task_type is {config.task_type!r}; T5's is 'SEQ_2_SEQ_LM'")
    return config


def _facts(folder: Path) -> TaskFacts | None:
    path = folder / PEFT_TASK_NAME
    try:
        values = read_json(path)
        return None if values is None else TaskFacts(**values)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; export the task again") from error


def _check_base(folder: Path, facts: TaskFacts | None, base: str, named: str, model: HyperformerT5) -> None:
    """See that a T5 is the one that the adapter was trained on: by its weights' hash, else by its name."""
    if facts and facts.base_fingerprint:
        if base_fingerprint(model) != facts.base_fingerprint:
            raise CheckpointError(
                f"{folder} was trained on {named!r}, and {base!r} has other weights. Give the T5 that it was trained on"
            )
    elif named and Path(base).name != Path(named).name:
        raise CheckpointError(
            f"{folder} was trained on {named!r}, and {base!r} has another name; peft keeps no hash of its weights. "
            f"Give that T5 by --base; if this is it, write its name into {EARLIER_CONFIG} as base_model_name_or_path"
        )


def _load(model: HyperformerT5, folder: Path, config: PeftConfig) -> None:
    """Put the adapter of a folder into a T5, and see that all of it arrived: peft only warns if it did not."""
    weights = read_safetensors(folder / EARLIER_WEIGHTS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            handle = PeftModelForSeq2SeqLM.from_pretrained(model, str(folder), config=config)
            there = get_peft_model_state_dict(handle, save_embedding_layers=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} does not fit the T5 {model.config.name_or_path!r}: {str(error).strip().splitlines()[-1].strip()}"
        ) from error
    wrong = sorted(
        name
        for name in weights.keys() | there.keys()
        if name not in weights
        or name not in there
        or not torch.equal(weights[name].float(), there[name].float())
    )
    if wrong:
        raise CheckpointError(
            f"{folder}: {len(wrong)} of its weights and those that the T5 has a place for differ, {wrong[0]!r} among "
            "them: it was trained on another T5, or the file is damaged"
        )
    hold(model, handle)
