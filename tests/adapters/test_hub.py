"""Pushing to the hub and loading from it: against a stand-in, and as it is documented to behave offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalTokenNotFoundError
from places import ROOT
from trained_models import make_adapter, make_base

from hyperformer.adapters.save import load_adapter
from hyperformer.commands.push import push
from hyperformer.errors import CheckpointError, HyperformerError


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    make_adapter(tmp_path / "adapter", make_base(tmp_path / "t5"))
    return tmp_path / "adapter"


def test_push_uploads_the_folder(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    class Hub:
        def create_repo(self, repository: str, **options: Any) -> Any:
            calls.append((repository, options))
            return SimpleNamespace(repo_id=repository)

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    push(adapter, "me/adapter", private=True)
    assert calls[0] == ("me/adapter", {"private": True, "exist_ok": True})
    upload = calls[1][1]
    assert (upload["repo_id"], upload["folder_path"]) == ("me/adapter", adapter)
    assert {path.name for path in adapter.iterdir()} <= set(upload["allow_patterns"])


def test_push_without_a_login(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LocalTokenNotFoundError("Token is required, but no token found")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(HyperformerError, match="hf auth login"):
        push(adapter, "me/adapter")


def test_push_offline(adapter: Path) -> None:
    """The variable is read when the library is imported: in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hyperformer.cli", "push", str(adapter), "me/adapter"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_to_be_pushed(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(HyperformerError, match="owner/name"):
        push(adapter, "a/b/c")
    with pytest.raises(CheckpointError, match="no such folder"):
        push(tmp_path / "nowhere", "me/adapter")
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="push its adapter/ folder"):
        push(tmp_path / "run", "me/adapter")


def test_loading_by_the_name_on_the_hub(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(adapter))
    assert load_adapter("me/adapter").config.tasks == ["cola", "mrpc", "stsb"]

    def unreachable(name: str, **_: Any) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find the requested files")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match="cannot be fetched from the Hugging Face hub"):
        load_adapter("me/adapter")
