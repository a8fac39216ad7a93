"""A hub that does not answer is asked twice, and no more; the error says what was wanted and what to do."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from places import ROOT

LOADS = """
import json, sys
from hyperformer.adapters.bases.pretrained import load_t5_config, load_tokenizer
from hyperformer.adapters.hub import find_folder
from hyperformer.data.sources import load_rows
from hyperformer.data.tasks import get_task
from hyperformer.errors import HyperformerError
from hyperformer.settings.schema import ModelConfig
told = []
for load in (
    lambda: load_tokenizer(ModelConfig("t5-base")),
    lambda: load_t5_config("t5-base"),
    lambda: load_rows(get_task("rte", {}), "train", source="hub"),
    lambda: find_folder("someone/adapter"),
):
    try:
        load()
    except HyperformerError as error:
        told.append(str(error))
print(json.dumps(told))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Hangs up, or finds nothing."""

    answers = False
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        if self.answers:
            self.send_error(404)
        else:
            self.close_connection = True

    do_GET = do_POST = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


def load_all(answers: bool, folder: Path) -> tuple[list[str], list[str]]:
    """What each load says, and what the hub was asked for."""
    handler = type("ThisHub", (Hub,), {"answers": answers, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(folder),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", LOADS], capture_output=True, text=True, env=environment, check=True
        )
        hub.shutdown()
    return json.loads(done.stdout.splitlines()[-1]), handler.asked


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    told, asked = load_all(False, tmp_path)
    assert len(asked) == 2  # and none by the libraries
    for wanted, line in zip(("t5-base", "t5-base", "nyu-mll/glue", "someone/adapter"), told, strict=True):
        assert wanted in line and f"not in the cache ({tmp_path})" in line
        assert "(http://127.0.0.1:" in line and "cannot be reached from this machine" in line
        assert "same HF_HOME" in line and "`prefetch`" in line and "\n" not in line
    assert "save_pretrained" in told[0] and "data_source=folder" in told[2]


def test_a_hub_that_has_no_such_thing_is_not_called_unreachable(tmp_path: Path) -> None:
    told, asked = load_all(True, tmp_path)
    assert len(told) == 4 and len(asked) > 4
    assert not any("cannot be reached" in line for line in told), told


def test_who_is_offline_by_choice_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from hyperformer.hub_access import why_offline

    why_offline.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    try:
        assert why_offline() == "HF_HUB_OFFLINE is set"
    finally:
        why_offline.cache_clear()
