"""``stages:``: sweeps that follow each other, in one file. A stage is a sweep of its own, named ``FILE:STAGE``.

=======  ==========================================================================
stages   NAME: keys of a sweep; each stands on top of what the file says outside of `stages`
         (:mod:`launchers.plan.sweep_keys.extends`), and starts when the one before it is done
after    a job id of SLURM, a sweep file or one of its stages, or a list of these: the first stage, or the sweep
         itself, starts when they are done
=======  ==========================================================================

`init_from` of a later stage can name runs of an earlier one (:class:`StageSource`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.sweep_keys.extends import merge

REPORT = "report"
"""What follows the last stage; no stage bears this name."""
NOT_KNOWN_YET = "/stage:"
"""Begins the `init_from` of a run whose source is not known yet: no such file is ever there."""
_FILE_ONLY = ("stages", "after", "name", "extends")
_SOURCE_KEYS = ("stage", "select", "run", "seed")


@dataclass(frozen=True)
class After:
    """What a sweep waits for: a job of SLURM, or a sweep ('' if it is the other)."""

    job: str
    sweep: str
    location: YamlNode


@dataclass(frozen=True)
class StageSource:
    """``init_from: {stage: train, select: best}``: the runs of an earlier stage that a run starts from.

    The run of the same variant is meant, and of the same seed where that stage has several.

    Attributes:
        is_chosen: ``select: best``: of the setting that the stage's own `select:` chooses.
        run: ``run: NAME`` or a glob: that run instead.
        seed: ``seed: 42``: of this seed.
    """

    stage: str
    location: YamlNode
    is_chosen: bool = False
    run: str | None = None
    seed: int | None = None


def is_not_known_yet(init_from: str | None) -> bool:
    """Whether the run that another one starts from has yet to be trained, or chosen."""
    return init_from is not None and init_from.startswith(NOT_KNOWN_YET)


def split_target(name: str | Path) -> tuple[str, str]:
    """'FILE:STAGE' -> the two; of a plain file the stage is ''."""
    file, colon, stage = str(name).rpartition(":")
    return (file, stage) if colon and not os.path.isfile(name) else (str(name), "")


def stage_names(root: YamlNode) -> tuple[str, ...]:
    """The stages of a file in order; (): it is an ordinary sweep.

    Raises:
        ConfigError: a stage's name cannot be one.
    """
    node = root.value.get("stages") if isinstance(root.value, dict) else None
    if node is None:
        return ()
    entries: dict[str, YamlNode] = node.mapping()
    if not entries:
        node.fail("has no stage")
    for name, entry in entries.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
            entry.fail(f"{name!r} cannot name a stage; use letters, digits, _ and -")
        if name == REPORT:
            entry.fail(
                "the report is written by itself after the last stage; leave it out, or choose another name"
            )
        for key in _FILE_ONLY:
            if key in entry.mapping():
                entry.mapping()[key].fail("stands at the top of the file, and not in a stage")
    return tuple(entries)


def of_stage(root: YamlNode, stage: str) -> YamlNode:
    """The sweep that a stage is, as if it had a file of its own.

    Raises:
        ConfigError: there is no such stage, or the file needs one to be named.
    """
    names = stage_names(root)
    if not stage and not names:
        return root
    if not stage:
        root.fail(
            f"has stages: name one of them, such as {root.file}:{names[0]}; there are: {', '.join(names)}"
        )
    if stage not in names:
        what = f"no stage {stage!r}{nearest(stage, names)}" if names else f"no stages, so no {stage!r}"
        root.fail(f"has {what}")
    shared = {key: node for key, node in root.value.items() if key not in _FILE_ONLY}
    return merge(replace(root, value=shared), root.value["stages"].value[stage])


def read_after(root: YamlNode) -> tuple[After, ...]:
    """What `after:` names.

    Raises:
        ConfigError: it is neither a job id nor the name of a file.
    """
    node = root.value.get("after") if isinstance(root.value, dict) else None
    if node is None:
        return ()
    return tuple(_after(entry) for entry in (node.sequence() if isinstance(node.value, list) else [node]))


def _after(node: YamlNode) -> After:
    text = str(node.value)
    is_number = isinstance(node.value, int) and not isinstance(node.value, bool)
    if re.fullmatch(r"[1-9][0-9]*(_[0-9]+)?", text) and (is_number or isinstance(node.value, str)):
        return After(text, "", node)
    if not isinstance(node.value, str) or not text:
        node.fail(f"must be a job id of SLURM, or a sweep file, not {node.value_text()}")
    file, stage = split_target(text)
    beside = Path(node.file).parent / file
    return After("", f"{beside if beside.is_file() else file}{f':{stage}' if stage else ''}", node)


def read_source(node: YamlNode, earlier: Sequence[str]) -> StageSource:
    """Read `init_from:` where it is a mapping.

    Args:
        earlier: the stages before the one that says it.

    Raises:
        ConfigError: with file, line and key.
    """
    entries = node.mapping(_SOURCE_KEYS)
    stage = entries.get("stage")
    if stage is None:
        node.fail("must name a stage, such as {stage: train, select: best}, or be the folder of a run")
    if stage.value not in earlier:
        known = f"; there are: {', '.join(earlier)}" if earlier else ", and there is none"
        stage.fail(f"{stage.value_text()} is no stage before this one{known}")
    select, run, seed = (entries.get(key) for key in _SOURCE_KEYS[1:])
    if select is not None and select.value != "best":
        select.fail(
            f"must be `best`, the setting that `select:` of that stage chooses, not {select.value_text()}"
        )
    if run is not None and select is not None:
        run.fail("names a run, and `select` another; write one of them")
    if run is not None and not (isinstance(run.value, str) and run.value):
        run.fail(f"must be the name of a run of that stage, not {run.value_text()}")
    if seed is not None and (isinstance(seed.value, bool) or not isinstance(seed.value, int)):
        seed.fail(f"must be a seed of that stage, not {seed.value_text()}")
    return StageSource(
        stage.value, node, select is not None, run.value if run else None, seed.value if seed else None
    )
