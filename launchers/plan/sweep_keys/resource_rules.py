"""`resources:` of a sweep file: for all runs, for a variant's, for those of some names."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.resources import Resources, read_resources, whole_number

_GROUPS = ("max_parallel", "variants", "runs")


@dataclass(frozen=True)
class ResourceRules:
    """`resources:` of the file. Precedence: those of a run's name, of its variant, of all runs, the cluster's."""

    shared: YamlNode | None = None
    variants: dict[str, YamlNode] = field(default_factory=dict)
    runs: tuple[tuple[str, YamlNode], ...] = ()

    def of_variant(self, variant: str, cluster: Resources) -> Resources:
        """Those of a variant's runs, over the cluster's."""
        found = cluster
        if self.shared is not None:
            found = read_resources(self.shared, found, also=_GROUPS)
        return read_resources(self.variants[variant], found) if variant in self.variants else found

    def of_run(self, name: str, variant: Resources) -> Resources:
        """Those of the run of that name, over its variant's."""
        for pattern, node in self.runs:
            if fnmatch.fnmatchcase(name, pattern):
                variant = read_resources(node, variant)
        return variant


def read_rules(node: YamlNode | None, names: list[str]) -> ResourceRules:
    """The rules of a file whose variants have these labels.

    Raises:
        ConfigError: with file, line and key.
    """
    if node is None:
        return ResourceRules()
    entries: dict[str, YamlNode] = node.mapping()
    special = entries["variants"].mapping() if "variants" in entries else {}
    for name, entry in special.items():
        if name not in names:
            entry.fail(f"{name!r} is none of the sweep's variants{nearest(name, names)}")
    rules = ResourceRules(
        node, special, tuple(entries["runs"].mapping().items() if "runs" in entries else ())
    )
    for name in names:
        rules.of_variant(name, Resources())
    for _, entry in rules.runs:
        read_resources(entry, Resources())  # wrong entries are reported even if no run has that name
    return rules


def read_max_parallel(resources: YamlNode | None) -> int | None:
    """The file's `max_parallel`; None: it says nothing."""
    entry = resources.mapping().get("max_parallel") if resources else None
    return whole_number(entry, 1) if entry else None
