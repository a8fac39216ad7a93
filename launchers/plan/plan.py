"""A plan and its runs: what a sweep file means, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperformer.settings.schema import RunConfig
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.model_selection.rule import SelectionRule
from launchers.plan.race.rule import RaceRule
from launchers.plan.resources import Resources

_LEGACY = (
    "{} of a version that did not record what the files and folders in their settings held. They count as made with "
    "those of the first submit by this version; if these had changed before it, give the sweep a new `name:`"
)
_UNREAD = "{} files that cannot be read here{}; they count as unchanged since these runs were planned"


@dataclass(frozen=True)
class Run:
    """One training job of the sweep.

    Attributes:
        name: readable, and unique in the sweep.
        differs: (setting, value as text) in which it differs from other runs of its variant, seed last;
            the task of a single-task run is not among them.
        resources: what it asks for: the cluster profile's, and the sweep file's on top.
        legacy_signature: its signature before contents of files belonged to signatures.
        settings_hash: hash of its settings, whatever the files in them hold.
        missing: files of rows that it reads and that are not on this machine.
        contents_now: of its files (:class:`hyperformer.data.contents.Contents`); they may be known as others.
        is_read: whether it is known what all of them hold.
    """

    name: str
    signature: str
    config: RunConfig
    differs: tuple[tuple[str, str], ...]
    resources: Resources
    legacy_signature: str = ""
    settings_hash: str = ""
    is_read: bool = True
    missing: tuple[str, ...] = ()
    contents_now: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str | None:
        """The task of a single-task run, None for one that trains its tasks together."""
        return self.config.data.tasks[0] if self.config.single_task else None

    def known_as(self, signature: str) -> Run:
        """The run under a signature that it has already; what was recorded with it counts, not what is read now."""
        return replace(
            self, signature=signature, config=replace(self.config, contents=None, known_as=signature)
        )

    @property
    def row(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What it shares with the runs of its row in the table: all but seed and single task."""
        return self.config.variant, tuple(item for item in self.differs if item[0] != "seed")


@dataclass(frozen=True)
class RecordedRun:
    """What plan.json has on a run that exists.

    Attributes:
        settings: hash of its settings; None: it is not recorded what the files in them held.
        contents: of its files, as far as they were read; of a run without such a record, when it was adopted.
    """

    settings: str | None
    contents: Mapping[str, str] = field(default_factory=dict)

    def agrees(self, run: Run) -> bool:
        """Whether no file that can be read now differs."""
        return all(run.contents_now.get(key, held) == held for key, held in self.contents.items())


@dataclass(frozen=True)
class Plan:
    """A sweep, expanded for one cluster. Made by :func:`launchers.plan.load_plan.make_plan`.

    Attributes:
        profile: the cluster's, whose resources stand under those of the sweep file.
        max_parallel: jobs at once at most, by the sweep file, else by the profile; None: no limit.
        merged: combinations that were equal to another run in all that can change a result.
        excluded: combinations that `exclude` dropped.
        notes: what the user may want to know, a line each.
        waits: whether it is not known yet which runs of an earlier stage its runs start from: nothing can start.
        select: which settings the report chooses; None: it shows all.
        renew_report: whether jobs that end renew the page of the report, by the sweep file, else by the profile.
        race: which settings train on from a step, and which are left there; None: all train to their end.
        columns: tasks, or tasks with a metric, in the order of the table's columns; others follow.
    """

    name: str
    source: Path
    text: str
    profile: ClusterProfile
    runs: tuple[Run, ...]
    max_parallel: int | None
    merged: int
    excluded: int
    notes: tuple[str, ...]
    select: SelectionRule | None = None
    waits: bool = False
    renew_report: bool = True
    race: RaceRule | None = None
    columns: tuple[str, ...] = ()

    def with_recorded(self, known: Mapping[str, RecordedRun]) -> Plan:
        """The plan with the signatures of runs that exist already, where it cannot be computed that they do.

        Args:
            known: by signature.
        """
        by_settings: dict[str, list[str]] = {}
        for signature, one in known.items():
            by_settings.setdefault(one.settings or "", []).insert(0, signature)  # the latest first
        runs, legacy, unread = [], 0, []
        for run in self.runs:
            others = (run.legacy_signature, run.settings_hash)
            old = [one for one in others if one != run.signature and one in known]
            same = [one for one in by_settings.get(run.settings_hash, []) if known[one].agrees(run)]
            is_legacy = bool(old) and known[old[0]].settings is None and known[old[0]].agrees(run)
            if run.signature not in known and is_legacy:
                run, legacy = run.known_as(old[0]), legacy + 1
            elif not run.is_read and same:
                run = run.known_as(same[0])
                unread.append(run)
            runs.append(run)
        notes = [_LEGACY.format("1 run is" if legacy == 1 else f"{legacy} runs are")] if legacy else []
        if unread:
            missing = sorted({path for run in unread for path in run.missing})
            listed = f" ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})" if missing else ""
            count = "1 run names" if len(unread) == 1 else f"{len(unread)} runs name"
            notes.append(_UNREAD.format(count, listed))
        return replace(self, runs=tuple(runs), notes=(*self.notes, *notes))
