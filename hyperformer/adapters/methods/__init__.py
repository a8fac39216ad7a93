"""The tuning methods: what each adds to T5 and trains. A file per method or family, and this table.

What settings know of them, without torch, is in :mod:`hyperformer.settings.methods`, under the same names.
"""

from __future__ import annotations

from hyperformer.adapters.methods.compacter import Compacter
from hyperformer.adapters.methods.hyperdecoder import Hyperdecoder
from hyperformer.adapters.methods.hypernetworks import Hypernetworks
from hyperformer.adapters.methods.method import Method
from hyperformer.adapters.methods.plain import Plain
from hyperformer.adapters.methods.task_adapters import PerTask
from hyperformer.adapters.methods.through_peft import ThroughPeft

METHODS: dict[str, Method] = {
    "none": Plain(),
    "task": PerTask(),
    "pfeiffer": PerTask(sites_per_layer=1),
    "compacter": Compacter(),
    "compacter++": Compacter(sites_per_layer=1),
    "hyperdecoder": Hyperdecoder(),
    "hypernetwork_per_layer": Hypernetworks(),
    "hypernetwork_per_block_type": Hypernetworks(),
    "hypernetwork_shared": Hypernetworks(),
    "lora": ThroughPeft(),
    "dora": ThroughPeft(),
    "ia3": ThroughPeft(),
    "vera": ThroughPeft(),
    "prefix_tuning": ThroughPeft(packs_targets=False),  # a prefix precedes each target
    "prompt_tuning": ThroughPeft(),
    "p_tuning": ThroughPeft(),
}
"""Every value of the setting `adapter`."""
