"""One task's generated adapters as static weights: the same output, no hypernetwork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trained_models import KINDS, TASKS, batch, make_adapter, make_base

from hyperformer.adapters.save import load_adapter
from hyperformer.adapters.trained_model import load_trained
from hyperformer.commands.export import export_task
from hyperformer.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    # Encoder and decoder of different depth.
    return make_base(tmp_path_factory.mktemp("t5"), num_decoder_layers=3)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *((kind, {}) for kind in KINDS),
        *(
            (kind, {"add_layer_norm_before_adapter": True, "conditional_layer_norm": True})
            for kind in KINDS[1:]
        ),
        ("hypernetwork_per_layer", {"train_task_embeddings": True, "add_layer_norm_after_adapter": False}),
        ("hypernetwork_shared", {"task_embeddings": ["a", "b", "a"]}),
        ("task", {"adapters": ["a", "b", "a"]}),
    ],
    ids=str,
)
def test_identical_output(kind: str, more: dict[str, Any], base: str, tmp_path: Path) -> None:
    check_export(kind, more, False, base, tmp_path)


def test_identical_output_of_a_whole_model(base: str, tmp_path: Path) -> None:
    check_export("hypernetwork_shared", {}, True, base, tmp_path)


def check_export(kind: str, more: dict[str, Any], whole: bool, base: str, tmp_path: Path) -> None:
    source = tmp_path / "from"
    model = make_adapter(source, base, kind, **more)
    if whole:
        source = tmp_path / "whole"
        model.save_pretrained(source)
    rows = batch(model.config.vocab_size)
    export_task(source, "stsb", tmp_path / "out" / "stsb")
    trained = load_trained(tmp_path / "out" / "stsb")
    static = trained.model
    assert trained.is_adapter is not whole
    assert static.config.tasks == ["stsb"]
    assert static.config.adapter_config.adapter == "task"
    assert not any("heads" in name or "embeddings" in name for name, _ in static.adapters.named_parameters())  # type: ignore[union-attr]
    torch.testing.assert_close(
        static(**rows, task="stsb").logits, model(**rows, task="stsb").logits, atol=1e-5, rtol=0
    )
    sources = {name: rows[name] for name in ("input_ids", "attention_mask")}
    for beams in (1, 4):
        options = {"task": "stsb", "max_length": 10, "min_length": 10, "num_beams": beams, "do_sample": False}
        assert torch.equal(static.generate(**sources, **options), model.generate(**sources, **options))


def test_errors_leave_nothing_behind(base: str, tmp_path: Path) -> None:
    make_adapter(tmp_path / "adapter", base)
    with pytest.raises(ConfigError, match="did you mean 'stsb'"):
        export_task(tmp_path / "adapter", "stsbb", tmp_path / "out")
    with pytest.raises(CheckpointError, match="already exists"):
        export_task(tmp_path / "adapter", "stsb", tmp_path / "adapter")
    make_adapter(tmp_path / "finetuned", base, "none")
    with pytest.raises(ConfigError, match="no adapters"):
        export_task(tmp_path / "finetuned", "stsb", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "finetuned"}


def test_the_card_has_the_metrics_of_the_task(base: str, tmp_path: Path) -> None:
    import json

    from trained_models import RESULT

    make_adapter(tmp_path / "run" / "adapter", base)
    (tmp_path / "run" / "result.json").write_text(json.dumps(RESULT))
    export_task(tmp_path / "run" / "adapter", "mrpc", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| mrpc | test | acc | 70.25 |" in card
    assert "cola" not in card
    assert load_adapter(tmp_path / "out").config.tasks == ["mrpc"] != TASKS
