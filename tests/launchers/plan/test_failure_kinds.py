"""The kinds of failure: one table, and the documentation shows that very table."""

from __future__ import annotations

import os
import re
import typing

from places import ROOT

from launchers.plan.failure_kinds import KINDS, Kind, markdown

PAGE = ROOT / "docs" / "failures.md"


def test_every_kind_has_its_row() -> None:
    assert set(KINDS) == set(typing.get_args(Kind))


def test_the_documentation_shows_the_table() -> None:
    """Renew it with HYPERFORMER_RENEW=1, as the golden files."""
    text = PAGE.read_text()
    table = "\n".join(markdown()) + "\n"
    renewed = re.sub(r"(?m)^\| kind \|.*\n(\|.*\n)+", lambda _: table, text, count=1)
    if os.environ.get("HYPERFORMER_RENEW"):
        PAGE.write_text(renewed)
    assert text == renewed
