"""An adapter saved and put on a fresh T5 again; and folders that are damaged, or belong to another T5."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_models import KINDS, TASKS, batch, make_adapter, make_base
from transformers.utils.peft_utils import find_adapter_config_file

from hyperformer.adapters.save import load_adapter
from hyperformer.adapters.trained_model import load_model, load_trained, save_model
from hyperformer.errors import CheckpointError, HyperformerError
from hyperformer.files import new_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def adapter(tmp_path: Path, base: str) -> Path:
    make_adapter(tmp_path / "adapter", base)
    return tmp_path / "adapter"


def edit(folder: Path, **values: Any) -> None:
    """Change values of hyperformer_adapter.json; None takes a key out."""
    path = folder / "hyperformer_adapter.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in values or v is not None}))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *((kind, {}) for kind in KINDS),
        ("none", {}),
        ("hypernetwork_per_layer", {"conditional_layer_norm": True, "train_task_embeddings": True}),
        ("hypernetwork_shared", {"task_embeddings": ["a", "a", "b"]}),
        # What is frozen and yet random must be in the folder too.
        ("hypernetwork_shared", {"freeze_encoder": True}),
        ("task", {"freeze_model_but_task_embeddings": True}),
        ("task", {"random_init": True}),
    ],
    ids=str,
)
def test_a_loaded_adapter_computes_the_same(
    kind: str, more: dict[str, Any], base: str, tmp_path: Path
) -> None:
    saved = make_adapter(tmp_path, base, kind, **more)
    loaded = load_adapter(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in saved.state_dict().items())
    rows = batch(saved.config.vocab_size)
    for task in TASKS:
        torch.testing.assert_close(
            saved(**rows, task=task).logits, loaded(**rows, task=task).logits, atol=1e-5, rtol=0
        )
    assert loaded.config.task_prefix is (kind == "none")
    assert loaded.config.max_source_length == 128


def test_the_folder_is_small_and_holds_what_trained(adapter: Path) -> None:
    weights = load_file(adapter / "hyperformer_adapter.safetensors")
    assert any(name == "encoder.final_layer_norm.weight" for name in weights)
    assert not any("SelfAttention" in name for name in weights)
    card = (adapter / "README.md").read_text()
    assert "| mrpc | test | f1 | 81.50 |" in card
    assert "karimi-mahabadi-etal-2021" in card
    assert "1,234 of 56,789" in card
    assert str(adapter.parent) not in card


def test_files_have_the_permissions_of_the_umask(adapter: Path, base: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    usual = (tmp_path / "new").stat().st_mode
    with new_folder(tmp_path / "whole") as folder:
        save_model(load_adapter(adapter), folder, files_of=Path(base))
    for folder in (adapter, tmp_path / "whole"):
        modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
        assert set(modes.values()) == {usual}, modes


def test_names_of_earlier_versions_are_read_and_peft_leaves_ours_alone(adapter: Path, base: str) -> None:
    assert find_adapter_config_file(str(adapter)) is None
    before = load_adapter(adapter).state_dict()
    (adapter / "hyperformer_adapter.json").rename(adapter / "adapter_config.json")
    (adapter / "hyperformer_adapter.safetensors").rename(adapter / "adapter_model.safetensors")
    trained = load_trained(adapter)
    assert trained.is_adapter
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    # A run that ends again in that folder writes today's names, which then hold.
    make_adapter(adapter, base, "none")
    assert load_trained(adapter).model.adapters is None


def test_the_code_on_the_card_runs(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (adapter / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace("FOLDER", str(adapter)))
    assert capsys.readouterr().out.startswith("['")


@pytest.mark.parametrize("import_transformers_first", [False, True])
def test_the_auto_classes_load_a_whole_model_as_its_card_says(
    import_transformers_first: bool, adapter: Path, base: str, tmp_path: Path
) -> None:
    expected = load_adapter(adapter)
    with new_folder(tmp_path / "whole") as folder:
        save_model(expected, folder, files_of=Path(base))
    code = (tmp_path / "whole" / "README.md").read_text().split("```python\n")[2].split("```")[0]
    lines = code.replace("FOLDER", str(tmp_path / "whole")).splitlines()
    if import_transformers_first:
        lines[:2] = lines[1::-1]
    lines += [
        "import sys, torch",
        "torch.save(model.state_dict(), sys.argv[1])",
        "print(type(model).__name__)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(tmp_path / "loaded")], capture_output=True, text=True
    )
    assert done.stdout.split()[-1:] == ["HyperformerT5"], done.stderr
    loaded = torch.load(tmp_path / "loaded")
    assert all(torch.equal(value, loaded[name]) for name, value in expected.state_dict().items())


def test_the_base_may_have_moved(adapter: Path, base: str, tmp_path: Path) -> None:
    moved = Path(base).rename(tmp_path / "moved")
    try:
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load_adapter(adapter)
        assert load_adapter(adapter, str(moved)).config.tasks == TASKS
    finally:
        moved.rename(base)


def test_another_base_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"d_ff 48 \(not 64\)"):
        load_adapter(adapter, make_base(tmp_path / "wide", d_ff=64))
    with pytest.raises(CheckpointError, match="same sizes but other weights"):
        load_adapter(adapter, make_base(tmp_path / "other", seed=1))


@pytest.mark.parametrize("size", [0, 5, 200, -100])
def test_truncated_weights(adapter: Path, size: int) -> None:
    path = adapter / "hyperformer_adapter.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_adapter(adapter)


@pytest.mark.parametrize("damage", ["shape", "unknown", "missing", "value"])
def test_weights_that_do_not_fit(adapter: Path, damage: str) -> None:
    path = adapter / "hyperformer_adapter.safetensors"
    weights = load_file(path)
    name = "adapters.task_embeddings.weight"
    if damage == "shape":
        weights[name] = weights[name][:2].clone()
    elif damage == "unknown":
        weights[f"{name}s"] = weights[name].clone()
    elif damage == "missing":
        del weights[name]
    else:
        weights[name][0, 0] += 1
    save_file(weights, path)
    expected = {
        "shape": r"\(2, 12\)",
        "unknown": "no place",
        "missing": "is missing",
        "value": "hash differs",
    }
    with pytest.raises(CheckpointError, match=expected[damage]):
        load_adapter(adapter)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tasks": None}, "tasks missing"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": "cola"}, "tasks is 'cola'"),
        ({"tasks": ["cola", "cola", "stsb"]}, "a task twice"),
        ({"tasks": ["cola"]}, r"shape \(3, 12\)"),
        ({"format": 99}, "format 99"),
        ({"task_prefx": True}, "did you mean 'task_prefix'"),
        ({"base_sizes": 3}, "base_sizes is 3"),
        ({"adapter_settings": {"adapter": "prefix_lora"}}, "adapter is 'prefix_lora'"),
        ({"adapter_settings": {"adapter": "task", "rank": 3}}, "unknown setting 'rank'"),
        ({"adapter_settings": None}, "not the config of one of our adapters"),
    ],
    ids=str,
)
def test_a_wrong_config(adapter: Path, values: dict[str, Any], message: str) -> None:
    edit(adapter, **values)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(adapter)


def test_missing_files(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_adapter(tmp_path / "nowhere")
    (adapter / "hyperformer_adapter.safetensors").rename(tmp_path / "kept")
    with pytest.raises(CheckpointError, match="hyperformer_adapter.safetensors is missing"):
        load_adapter(adapter)
    (adapter / "hyperformer_adapter.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a JSON file"):
        load_adapter(adapter)
    (adapter / "hyperformer_adapter.json").unlink()
    with pytest.raises(CheckpointError, match="hyperformer_adapter.json is missing"):
        load_adapter(adapter)
    with pytest.raises(CheckpointError, match="neither an adapter"):
        load_trained(adapter)


def test_a_damaged_base(adapter: Path, tmp_path: Path) -> None:
    base = Path(make_base(tmp_path / "cut"))
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_adapter(adapter, str(base))


def test_own_tasks_go_along(base: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        'reviews: {template: "review: {text}", target: stars, labels: ["1", "2"], metrics: [accuracy]}'
    )
    make_adapter(tmp_path / "adapter", base, tasks=["reviews"], task_file=str(own))
    assert load_trained(tmp_path / "adapter").task_file == tmp_path / "adapter" / "tasks.yaml"


class TestWholeModels:
    def test_there_and_back(self, adapter: Path, tmp_path: Path) -> None:
        model = load_adapter(adapter)
        model.save_pretrained(tmp_path / "whole")
        loaded = load_model(tmp_path / "whole")
        assert all(
            torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items()
        )
        assert (loaded.config.tasks, loaded.config.task_prefix) == (TASKS, False)

    def test_a_plain_t5(self, base: str) -> None:
        model = load_trained(base).model
        assert model.adapters is None
        assert torch.isfinite(model(**batch(model.config.vocab_size)).logits).all()

    @pytest.mark.parametrize("damage", ["cut", "missing", "unknown", "shape", "config", "kind"])
    def test_damage(self, damage: str, adapter: Path, tmp_path: Path) -> None:
        folder = tmp_path / "whole"
        load_adapter(adapter).save_pretrained(folder)
        path, config = folder / "model.safetensors", folder / "config.json"
        weights = load_file(path)
        name = "adapters.task_embeddings.weight"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif damage == "config":
            config.write_text("[]")
        elif damage == "kind":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "bert"}))
        else:
            changed = {
                "shape": {name: weights[name][:2].clone()},
                "unknown": {"x": weights[name].clone()},
                "missing": {},
            }
            weights = {k: v for k, v in weights.items() if k != name or damage == "unknown"} | changed[damage]
            save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(HyperformerError):
            load_model(folder)
