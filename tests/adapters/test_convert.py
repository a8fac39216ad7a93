"""Checkpoint folders of the authors' code made ours, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement import Fixture, forward
from places import FIXTURES, reference_settings
from safetensors.torch import save_file

from hyperformer.adapters.reference import CROSS_BIAS
from hyperformer.adapters.trained_model import load_model
from hyperformer.cli import main
from hyperformer.commands.convert import from_theirs, to_theirs
from hyperformer.errors import CheckpointError, ConfigError

# Notes on how training differs: nothing to a conversion.
pytestmark = pytest.mark.filterwarnings("ignore::hyperformer.settings.config_files.ConfigWarning")
FIXTURE = Fixture(FIXTURES / "reference" / "model" / "hyperformerpp_pre0_tte0")


def their_settings(fixture: Fixture, path: Path, **more: Any) -> Path:
    """The JSON that they would have trained a fixture with."""
    golden = fixture.golden
    adapted = "adapter_config_name" in (golden["adapter_args"] or {})
    values = {
        "train_adapters": adapted,
        "tasks": golden["tasks"],
        "max_steps": 10,
        **(golden["adapter_args"] or {}),
    }
    values |= {key: golden[key] for key in ("adapters", "task_embeddings") if golden[key]}
    path.write_text(json.dumps(values | more))
    return path


def their_folder(
    fixture: Fixture, folder: Path, weights: dict[str, torch.Tensor], binary: bool = True
) -> Path:
    folder.mkdir()
    config = {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        **fixture.golden["t5_config"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    if binary:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    (folder / "spiece.model").write_bytes((FIXTURES / "reference" / "e2e" / "spiece.model").read_bytes())
    return folder


@pytest.mark.parametrize(
    "fixture", [Fixture(path) for path in reference_settings()], ids=lambda f: f.folder.name
)
def test_there_and_back(fixture: Fixture, tmp_path: Path) -> None:
    settings = their_settings(fixture, tmp_path / "train.json")
    theirs = their_folder(fixture, tmp_path / "theirs", fixture.weights)
    from_theirs(theirs, settings, tmp_path / "ours")
    model = load_model(tmp_path / "ours")
    outputs = fixture.tensors("outputs")
    for task in fixture.golden["tasks"]:
        with torch.no_grad():
            logits = forward(model, fixture.inputs(task), task=task)
        torch.testing.assert_close(logits, outputs[f"logits.{task}"], atol=2e-5, rtol=0)
    assert (tmp_path / "ours" / "spiece.model").exists()
    assert "adapters" in (tmp_path / "ours" / "README.md").read_text()

    to_theirs(tmp_path / "ours", tmp_path / "back")
    back = torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True)
    assert back.keys() == fixture.weights.keys()
    for name, value in fixture.weights.items():
        assert back[name].dtype == value.dtype
        assert back[name].numpy().tobytes() == value.numpy().tobytes(), name
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["model_type"] == "t5"
    assert "adapter_settings" not in config
    assert all(config.get(key, value) == value for key, value in fixture.golden["t5_config"].items())


def test_a_cross_attention_bias_comes_through(tmp_path: Path) -> None:
    crossed = FIXTURE.tensors("crossbias")
    weights = {**FIXTURE.weights, CROSS_BIAS: crossed[CROSS_BIAS]}
    theirs = their_folder(FIXTURE, tmp_path / "theirs", weights)
    from_theirs(theirs, their_settings(FIXTURE, tmp_path / "train.json"), tmp_path / "ours")
    model = load_model(tmp_path / "ours")
    for task in FIXTURE.golden["tasks"]:
        with torch.no_grad():
            logits = forward(model, FIXTURE.inputs(task), task=task)
        torch.testing.assert_close(logits, crossed[f"logits.{task}"], atol=2e-5, rtol=0)
    to_theirs(tmp_path / "ours", tmp_path / "back")
    back = torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True)
    assert torch.equal(back[CROSS_BIAS], crossed[CROSS_BIAS])
    assert bool(back[CROSS_BIAS].any())


def test_a_file_that_holds_tied_weights_once_and_half_precision(tmp_path: Path) -> None:
    once = {
        n: v.half() for n, v in FIXTURE.weights.items() if "embed_tokens" not in n and n != "lm_head.weight"
    }
    theirs = their_folder(FIXTURE, tmp_path / "theirs", once, binary=False)
    from_theirs(theirs, their_settings(FIXTURE, tmp_path / "train.json"), tmp_path / "ours")
    to_theirs(tmp_path / "ours", tmp_path / "back")
    back = torch.load(tmp_path / "back" / "pytorch_model.bin", weights_only=True)
    assert back.keys() == FIXTURE.weights.keys()
    assert all(
        back[name].dtype == torch.float16 and torch.equal(back[name], value) for name, value in once.items()
    )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = their_folder(FIXTURE, tmp_path / "theirs", FIXTURE.weights)
    settings = their_settings(FIXTURE, tmp_path / "train.json")
    assert main(["convert", str(theirs), str(tmp_path / "ours"), "--config", str(settings)]) == 0
    assert "hypernetwork_shared, tasks cola, mrpc, stsb" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back"), "--back"]) == 0
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back"), "--back"]) == 2
    assert "already exists" in capsys.readouterr().err


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("code in a checkpoint was run",))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "damaged, cut short"),
        ("empty", "damaged, cut short"),
        ("code", "more than weights"),
        ("list", "no model's weights"),
        ("absent", "neither pytorch_model.bin"),
        ("missing", "is missing"),
        ("shape", "has shape"),
        ("unknown", "no place"),
        ("tied", "differ, and T5 has one matrix"),
        ("types", "types"),
        ("config", "config.json is missing"),
        ("kind", "is a bert model"),
    ],
)
def test_damaged_checkpoints(
    damage: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = dict(FIXTURE.weights)
    name = "encoder.final_layer_norm.weight"
    if damage == "missing":
        del weights[name]
    elif damage == "shape":
        weights[name] = weights[name][:-1]
    elif damage == "unknown":
        weights["encoder.extra.weight"] = weights[name]
    elif damage == "tied":
        weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    elif damage == "types":
        weights[name] = weights[name].half()
    theirs = their_folder(FIXTURE, tmp_path / "theirs", weights)
    path, config = theirs / "pytorch_model.bin", theirs / "config.json"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage in ("code", "list"):
        torch.save({"x": _Evil()} if damage == "code" else [1], path)
    elif damage == "absent":
        path.unlink()
    elif damage == "config":
        config.unlink()
    elif damage == "kind":
        config.write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=message):
        from_theirs(theirs, their_settings(FIXTURE, tmp_path / "train.json"), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert "was run" not in capsys.readouterr().out


def test_settings_of_another_training(tmp_path: Path) -> None:
    theirs = their_folder(FIXTURE, tmp_path / "theirs", FIXTURE.weights)
    other = their_settings(FIXTURE, tmp_path / "train.json", reduction_factor=4)
    with pytest.raises(CheckpointError, match="Give the JSON that it was trained with"):
        from_theirs(theirs, other, tmp_path / "ours")
    without = their_settings(FIXTURE, tmp_path / "train.json", tasks=[])
    with pytest.raises(ConfigError, match="tasks is missing"):
        from_theirs(theirs, without, tmp_path / "ours")
    with pytest.raises(ConfigError, match="no such|cannot be read"):
        from_theirs(theirs, tmp_path / "nowhere.json", tmp_path / "ours")
