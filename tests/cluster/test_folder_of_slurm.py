"""What `make slurm` does with the folder it is given; no SLURM is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import slurm_cluster


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_it_did_not_make_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setattr(slurm_cluster, "why_not", lambda: None)
    (tmp_path / "thesis.tex").write_text("years")
    folder = tmp_path if kind == "folder" else tmp_path / "thesis.tex"
    assert slurm_cluster._start(folder) == 1
    assert "holds something else than a SLURM" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_what_it_may_replace(tmp_path: Path) -> None:
    assert slurm_cluster._may_be_replaced(tmp_path / "new") and slurm_cluster._may_be_replaced(tmp_path)
    (tmp_path / "slurm.conf").touch()
    assert not slurm_cluster._may_be_replaced(tmp_path)
    (tmp_path / slurm_cluster._MARK).touch()  # of a start that failed
    assert slurm_cluster._may_be_replaced(tmp_path)


def test_its_variables_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "env.sh").write_text(slurm_cluster._variables(Path("/a b/$x'y")))
    done = subprocess.run(
        ["/bin/bash", "-c", '. ./env.sh; printf "%s|%s" "$SLURM_CONF" "$PATH"'],
        cwd=tmp_path, env={"PATH": "/one two"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "/a b/$x'y/slurm.conf|/one two:/usr/sbin:/sbin" and not done.stderr
