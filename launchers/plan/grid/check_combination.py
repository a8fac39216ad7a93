"""One combination of settings -> its checked config, and what the files in it hold."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hyperformer.errors import ConfigError, DataError
from hyperformer.settings.build import SimilarConfigs, cached_flat, local_name, with_local_names
from hyperformer.settings.schema import OUTPUT, RunConfig
from hyperformer.settings.signature import hash_as_spelled, with_contents, with_seed
from hyperformer.settings.values import coerce, settings
from launchers.plan.grid.combinations import Candidate, Values
from launchers.plan.sweep_file import SweepFile

if TYPE_CHECKING:
    from hyperformer.data.contents import Contents

_DEFAULT_ADAPTER = settings()["adapter"].default
_NOT_ALWAYS_USED = [entry for entry in settings().values() if entry.is_of_methods or entry.several_tasks]
_SPELLED = [entry for entry in settings().values() if (entry.path and entry.path != OUTPUT) or entry.choices]


class UnreadableInput(ConfigError):
    """A file or folder that a setting names is there, and is not what it should be."""


@dataclass(frozen=True)
class PlannedRun:
    """A run before it has a name.

    Attributes:
        spelled: settings as they counted in versions that hashed paths as they were written, and no contents.
    """

    candidate: Candidate
    config: RunConfig
    spelled: Values
    missing: tuple[str, ...] = ()

    @property
    def legacy_signature(self) -> str:
        """Its signature in those versions."""
        return hash_as_spelled(self.config, self.spelled)

    @property
    def variant(self) -> str:
        return self.candidate.variant.name


class RunPlanner:
    """Checks the combinations of a sweep file, one after the other; what is as before is not looked at again.

    Args:
        contents: reads the files that settings name; None: they count as files that cannot be read.
    """

    def __init__(self, file: SweepFile, contents: Contents | None) -> None:
        self._where = str(file.source)
        self._contents = contents
        self._configs = SimilarConfigs()
        self._planned: dict[int, PlannedRun] = {}
        self._local_name = functools.cache(local_name)

    def plan(self, candidate: Candidate) -> PlannedRun:
        """Check a combination.

        Raises:
            UnreadableInput: a file that a setting names is not what it should be.
            ConfigError: a value is impossible (file, line and key).
        """
        like = self._planned.get(candidate.setting)
        if like is None:
            like = self._planned[candidate.setting] = self._first(candidate)
            return like
        config = self._config(candidate, candidate.values, like.config)
        return PlannedRun(candidate, config, like.spelled, like.missing)

    def _first(self, candidate: Candidate) -> PlannedRun:
        """The first planned of those that differ in the seed alone."""
        unused = unused_settings(candidate.values)
        values = {key: value for key, value in candidate.values.items() if key not in unused}
        values.pop("output_dir", None)
        values = with_local_names(values, self._local_name)
        config = self._config(candidate, values)
        spelled = _as_spelled(config, values)
        if self._contents is None:
            return PlannedRun(candidate, with_contents(config, {}), spelled)
        _check_tasks(candidate, config, self._contents)
        try:
            contents, missing = self._contents.read(config), self._contents.missing(config)
        except (ConfigError, OSError) as error:
            _fail(candidate, str(error).split(" ", 1)[0], error)
        return PlannedRun(candidate, with_contents(config, contents), spelled, tuple(missing))

    def _config(self, candidate: Candidate, values: Values, like: RunConfig | None = None) -> RunConfig:
        """`like`: a config with these values, but for the seed."""
        try:
            if like is not None:
                return with_seed(like, coerce("seed", values["seed"], self._where))
            return self._configs.make(values, self._where)
        except ConfigError as error:
            # The message starts with the setting's name; say where the sweep sets it.
            message = str(error).removeprefix(f"{self._where}: ")
            location = candidate.locations.get(message.split(" ", 1)[0])
            if location is not None:
                location.fail(f"{message} (variant {candidate.variant.name})")
            candidate.variant.location.fail(f"{message} (set in {candidate.variant.config_file})")


def _fail(candidate: Candidate, key: str, error: Exception) -> NoReturn:
    """An error of a file that a setting names, with the place where the sweep sets it."""
    try:
        candidate.locations.get(key, candidate.variant.location).fail(str(error))
    except ConfigError as placed:
        raise UnreadableInput(str(placed)) from error


def _as_spelled(config: RunConfig, values: Values) -> Values:
    """The settings that versions before hashed in another spelling than the config's."""
    spelled: Values = {}
    flat = cached_flat(config)
    for entry in _SPELLED:
        value = values.get(entry.name)
        own = flat[entry.name]
        if value is None or (value == own and type(value) is type(own)):  # 1.0 was another text than 1
            continue
        if entry.path and isinstance(value, str):
            path = Path(value)
            is_here = value not in ("", "toy") and not path.is_absolute() and path.exists()
            spelled[entry.name] = str(path.absolute()) if is_here else value
        elif entry.choices:
            spelled[entry.name] = value
    return spelled


def _check_tasks(candidate: Candidate, config: RunConfig, contents: Contents) -> None:
    """See that there are tasks of these names."""
    from hyperformer.data.tasks import TASKS, get_task

    try:
        own = contents.user_tasks(config.data.task_file)
    except (ConfigError, DataError, OSError) as error:
        _fail(candidate, "task_file", error)
    starts = candidate.locations.get("init_tasks")
    named = [("tasks", task) for task in config.data.tasks]
    named += [("init_tasks", task) for task in (starts.mapping() if starts else ())]
    for key, task in named:
        if task not in TASKS and task not in own:
            location = candidate.locations.get(key, candidate.variant.location)
            entries = location.value if isinstance(location.value, list) else []
            location = next((entry for entry in entries if entry.value == task), location)
            try:
                get_task(task, own)
            except ConfigError as error:
                location.fail(str(error))


def unused_settings(values: Values) -> frozenset[str]:
    """Settings that cannot change the result of a run with these values."""
    tasks = values.get("tasks")
    is_single = isinstance(tasks, list | tuple) and len(tasks) == 1
    adapter = values.get("adapter", _DEFAULT_ADAPTER)
    return _unused(
        adapter if isinstance(adapter, str) else "", is_single
    )  # what is not a name is refused elsewhere


@functools.cache
def _unused(adapter: str, is_single: bool) -> frozenset[str]:
    values = {"adapter": adapter, "tasks": ["one"] if is_single else []}
    return frozenset(entry.name for entry in _NOT_ALWAYS_USED if not entry.is_used(values))
