"""Room under a quota. `quota` and `lfs` are pretended here, with what they print for real.

The texts of quota are what quota-tools 4.06 prints on ext4 and XFS; those of lfs follow its source.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from launchers.submit import preflight_disk, quota
from launchers.submit.quota import Limit, read_figures

HEAD = "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
QUOTA = (
    "Disk quotas for user {user} (uid {uid}): \n" + HEAD + "       /dev/vda    {user_figures}\n"
    "Disk quotas for group nogroup (gid {gid}): \n" + HEAD + "       /dev/vda    {group_figures}\n"
    "Disk quotas for group other (gid 4242): \n" + HEAD + "       /dev/vda  9999999* 1 1 1 9999999* 1 1 1\n"
)
NO_LIMIT = "2513       0       0       0      14       0       0       0"


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    command = folder / "bin" / name
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")


def look_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, user: str = NO_LIMIT, group: str = NO_LIMIT, count: int = 2
) -> preflight_disk.SpaceReport:
    text = QUOTA.format(
        user="me (PhD)", uid=os.geteuid(), gid=os.getegid(), user_figures=user, group_figures=group
    )
    pretend(folder, monkeypatch, "quota", f"cat <<'END'\n{text}END\nexit 1")
    return preflight_disk.check_space(folder / "runs" / "s", count)


def test_a_pretended_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*figures: str, count: int = 2) -> preflight_disk.SpaceReport:
        return look_with(tmp_path, monkeypatch, *figures, count=count)

    assert look() == preflight_disk.SpaceReport([], [])
    (told,) = look("20480   20000   21504       0      14       0       0       0").findings
    assert "your quota leaves 1 MB (20 of 21 MB used), but 2 runs need about 2 MB" in told
    assert str(tmp_path) in told and "choose another --runs-dir" in told
    (told,) = look(NO_LIMIT, "2513       0       0       0      41       0     100       0").findings
    assert f"the quota of group {os.getegid()} leaves 59 files (41 of 100 files used)" in told
    assert "2 runs need about 60 files" in told
    found = look(NO_LIMIT, "2513       0       0       0      40      50     100       0")
    assert not found.findings and "(40 of 50 files used) can be exceeded for its grace time" in found.notes[0]
    later, before = int(time.time()) + 86_400, int(time.time()) - 5
    found = look(f"2513*   2000    9000 {later}      14*     10      2000 {later}")
    assert not found.findings and len(found.notes) == 2
    assert f"after {time.strftime('%Y-%m-%d %H:%M', time.localtime(later))} nothing more" in found.notes[0]
    (told,) = look(f"2513*   2000    90000 {before}      14     100      200       0", count=1).findings
    assert "is exceeded (2 of 2 MB used) and its grace time over" in told


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo 'Disk quotas for user me (uid 0): none'",
        "echo 'Disk quotas for user me (uid 0): no limited resources used'",
        "printf 'Disk quotas for user me (uid 0): \\n a b c\\n \\377 - - - 1\\n'",
        "kill -9 $$",
    ],
)
def test_what_says_nothing_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    pretend(tmp_path, monkeypatch, "quota", script)
    assert preflight_disk.check_space(tmp_path, 2) == preflight_disk.SpaceReport([], [])


def test_without_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight_disk.check_space(tmp_path, 2) == preflight_disk.SpaceReport([], [])


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "quota", "exec sleep 60")
    monkeypatch.setattr(quota, "_TIMEOUT_S", 0.2)
    assert preflight_disk.check_space(tmp_path, 2) == preflight_disk.SpaceReport([], [])


@pytest.mark.parametrize(
    ("text", "space", "files"),
    [
        (
            "     /mnt/lustre     112    1024    2048       -       9       0      10       -\n",
            Limit("q", "space", 112 << 10, 1 << 20, 2 << 20),
            Limit("q", "files", 9, math.inf, 10),
        ),
        (
            "/mnt/a/long/name\n     [112]  0  0  -  9*  5  10  none\n",
            None,
            Limit("q", "files", 9, 5, 10, 0.0),
        ),
        ("  /mnt/lustre  0  0  0  -  0  0  0  -\nuid 1 is using default file quota setting\n", None, None),
        ("Permission denied.\n", None, None),
    ],
)
def test_figures_of_lustre(text: str, space: Limit | None, files: Limit | None) -> None:
    assert list(read_figures("q", text)) == [limit for limit in (space, files) if limit]


def test_grace_of_lustre() -> None:
    (limit,) = read_figures("q", "/m 112* 100 200 6d23h59m50s 9 0 0 -")
    assert limit.grace_ends is not None and not limit.is_over
    assert abs(limit.grace_ends - time.time() - 604_790) < 5


def test_a_pretended_lustre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        'case "$*" in\n'
        '"quota -q -u "*) echo "  /mnt/l  112  0  0  -  9  0  0  -";;\n'
        '"project -d "*) echo "  1000 P /mnt/l";;\n'
        '"quota -q -p 1000 /mnt/l") echo "  /mnt/l  112  0  1024  -  9  0  0  -";;\n'
        "*) exit 1;; esac"
    )
    pretend(tmp_path, monkeypatch, "lfs", script)
    (limit,) = quota.limits(tmp_path, Path("/mnt/l"), "lustre")
    assert limit == Limit("the quota of project 1000", "space", 112 << 10, math.inf, 1 << 20)
