"""`none`: T5 without adapters. All of it trains, or what the `freeze_*` settings leave."""

from __future__ import annotations

from hyperformer.adapters.methods.method import Method


class Plain(Method):
    """Adds nothing."""

    trains_t5 = True
