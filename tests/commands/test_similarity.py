"""How alike the task embeddings are: the numbers, the table, the plot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from trained_models import TASKS, make_adapter, make_base

from hyperformer.adapters.save import load_adapter
from hyperformer.cli import main
from hyperformer.commands.similarity import similarity_table, task_similarity
from hyperformer.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("t5"))


def test_numbers(base: str, tmp_path: Path) -> None:
    model = make_adapter(tmp_path / "adapter", base)
    tasks, similarity = task_similarity(tmp_path / "adapter")
    assert tasks == TASKS
    torch.testing.assert_close(similarity.diagonal(), torch.ones(3, dtype=torch.float64))
    weights = model.adapters.task_embeddings.weight  # type: ignore[union-attr]
    expected = torch.nn.functional.cosine_similarity(weights[0], weights[2], dim=0)
    assert float(similarity[0, 2]) == pytest.approx(expected.item(), abs=1e-5)
    load_adapter(tmp_path / "adapter").save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(task_similarity(tmp_path / "whole")[1], similarity)


def test_projected_and_shared_embeddings(base: str, tmp_path: Path) -> None:
    model = make_adapter(
        tmp_path, base, "hypernetwork_per_layer", train_task_embeddings=True, task_embeddings=["a", "b", "a"]
    )
    similarity = task_similarity(tmp_path)[1]
    assert float(similarity[0, 2]) == pytest.approx(1)
    projected = model.adapters.task_embeddings(None)  # type: ignore[union-attr]
    expected = torch.nn.functional.cosine_similarity(projected[0], projected[1], dim=0)
    assert float(similarity[0, 1]) == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_command(suffix: str, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_adapter(tmp_path / "adapter", base)
    plot = tmp_path / f"plot.{suffix}"
    assert main(["similarity", str(tmp_path / "adapter"), str(plot)]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == similarity_table(*task_similarity(tmp_path / "adapter")).strip()
    assert plot.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_errors(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_adapter(tmp_path / "task", base, "task")
    with pytest.raises(ConfigError, match="no task embeddings"):
        task_similarity(tmp_path / "task")
    with pytest.raises(ConfigError, match="no task embeddings"):
        task_similarity(base)
    with pytest.raises(CheckpointError, match="no such folder"):
        task_similarity(tmp_path / "nowhere")
    assert main(["similarity", str(tmp_path / "task"), str(tmp_path / "plot.pdf")]) == 2
    assert ".png or .svg" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["similarity", str(tmp_path / "task"), str(tmp_path / "plot.png")]) == 2
    assert 'pip install "hyperformer[plot]"' in capsys.readouterr().err
