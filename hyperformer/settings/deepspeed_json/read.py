"""The user's DeepSpeed JSON (the setting ``deepspeed_config``), checked against the settings. Imports no torch.

The settings decide: what the file says about something that has a setting must be equal to it, or
"auto". So precision, ZeRO stage, learning rate and the rest are in one place, whatever the file says,
and the file only adds what has no setting. Everything that a run cannot honour is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError, nearest
from hyperformer.files import read_object
from hyperformer.settings.deepspeed_json.keys import KEYS, SCHEDULERS
from hyperformer.settings.deepspeed_json.refused import REFUSED, is_off
from hyperformer.settings.deepspeed_json.rules import AUTO, Checked, FromSetting, Passed, Rule, is_number
from hyperformer.settings.precision import zero_stage
from hyperformer.settings.schema import TrainingConfig

_SWITCHED = {"bf16": "bf16", "fp16": "fp16"}  # section -> the precision that it is of


@dataclass
class UserJson:
    """What the file adds to the settings.

    Attributes:
        passed: path of a key ("zero_optimization.overlap_comm") -> its value, for DeepSpeed.
        result: those of them that can change the run's result, and are not as without the file.
    """

    passed: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


def read_user_json(training: TrainingConfig, global_batch_size: int | None = None) -> UserJson:
    """Read and check the file that ``deepspeed_config`` names; nothing if it names none.

    Args:
        global_batch_size: rows of a step, if the number of ranks is known: ``train_batch_size`` is compared.

    Raises:
        ConfigError: the file cannot be read, contradicts a setting, or asks for what a run cannot honour.
            It names every such key at once, with why and what to write.
    """
    found = UserJson()
    if training.deepspeed_config is None:
        return found
    path = Path(training.deepspeed_config)
    reading = _Reading(training, global_batch_size, found)
    reading.section("", read_object(path, ConfigError, where=f"deepspeed_config {path}", keys_once=True))
    problems = [*reading.problems, *_schedule(training, found.passed)]
    problems += [f"{', '.join(paths)}: {why}" for why, paths in reading.refused.items()]
    if problems := problems or list(_together(training, found.passed)):
        lines = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"deepspeed_config {path}: {lines}")
    return found


@dataclass
class _Reading:
    """One walk through a file; collects what it adds, and what is wrong with it.

    Attributes:
        refused: why -> the paths of sections that a run cannot honour.
    """

    training: TrainingConfig
    global_batch_size: int | None
    found: UserJson
    problems: list[str] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def section(self, prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            path = prefix + name
            below = _below(path + ".")
            if "." in name or not (below or path in KEYS or path in REFUSED):
                hint = nearest(name, _below(prefix))
                self.problems.append(f"{path}: DeepSpeed 0.19 has no such key{hint}")
            elif path in REFUSED:
                if not is_off(value):
                    self.refused.setdefault(REFUSED[path], []).append(path)
            elif path in KEYS:
                self._key(path, KEYS[path], value)
            elif isinstance(value, dict):
                self.section(path + ".", value if _is_known_type(path, value) else {"type": value["type"]})
            elif value is not None:
                self.problems.append(
                    f'{path} is {_shown(value)}, but must be an object, such as {{"{below[0]}": "auto"}}'
                )

    def _key(self, path: str, rule: Rule, value: Any) -> None:
        if isinstance(rule, FromSetting):
            self._compare(path, rule, value)
            return
        if value == AUTO and rule.auto:
            return
        if not rule.values.hold(value):
            text = f"{path} is {_shown(value)}, but must be {rule.values.words}"
            why = f": {rule.why}" if isinstance(rule, Checked) and rule.why else ""
            self.problems.append(text + why)
        elif isinstance(rule, Passed):
            self._pass(path, rule, value)
        elif path == "train_batch_size" and self.global_batch_size not in (None, value):
            self.problems.append(
                f"train_batch_size is {value}, but the settings make it {self.global_batch_size} "
                '(per_device_train_batch_size x gradient_accumulation_steps x ranks); write "auto"'
            )

    def _compare(self, path: str, rule: FromSetting, value: Any) -> None:
        if value == AUTO:
            return
        ours, text = rule.value(self.training), f"{path} is {_shown(value)}, but"
        if ours is None:
            why = "how long the run is will be known when its rows are read"
            self.problems.append(f'{text} {why}; write "auto" there')
        elif _kind(value) != _kind(ours):
            self.problems.append(f'{text} must be {_kind(ours)}, or "auto"')
        elif value != ours:
            values = vars(self.training)
            held = " and ".join(
                f"{name} is {ours if values[name] is None else values[name]}" for name in rule.settings
            )
            self.problems.append(f'{text} the setting {held}; write {_remedy(rule, value)}, or "auto" there')

    def _pass(self, path: str, rule: Passed, value: Any) -> None:
        section = path.partition(".")[0]
        if value is None or _SWITCHED.get(section, self.training.precision) != self.training.precision:
            return
        if is_number(value) and value == int(value):
            value = int(value)  # 5e8 is a whole number
        self.found.passed[path] = value
        default = rule.default(self.training) if callable(rule.default) else rule.default
        if rule.result and value != default:
            self.found.result[path] = value


def _is_known_type(path: str, section: Mapping[str, Any]) -> bool:
    """Whether its parameters are known: not of an optimizer or schedule that is refused."""
    rule = KEYS.get(f"{path}.type")
    return "type" not in section or isinstance(rule, Passed | Checked) and rule.values.hold(section["type"])


def _remedy(rule: FromSetting, value: Any) -> str:
    return rule.remedy(value) if rule.remedy else f"{rule.settings[0]}={_shown(value)}"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if is_number(value) else type(value).__name__


def _below(prefix: str) -> list[str]:
    """The names that can be below a path, those that work first."""
    paths = (path for path in (*KEYS, *REFUSED) if path.startswith(prefix))
    return list(dict.fromkeys(path[len(prefix) :].partition(".")[0] for path in paths))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _together(training: TrainingConfig, passed: Mapping[str, Any]) -> Iterator[str]:
    """What the file adds, and the settings do not allow."""
    stage = zero_stage(training)
    for name, least in (("offload_optimizer", 1), ("offload_param", 3)):
        if passed.get(f"zero_optimization.{name}.device") == "cpu" and stage < least:
            text = f"zero_optimization.{name} needs ZeRO, and the setting zero_stage is {stage}"
            yield f"{text}; write zero_stage={'3' if least == 3 else '1, 2 or 3'}, or remove the section"
    dtype = passed.get("data_types.grad_accum_dtype", training.precision)
    if dtype != training.precision and (stage == 0 or dtype != "fp32"):
        text = f"precision is {training.precision} and zero_stage {stage}"
        fit = f"{training.precision}, or fp32 with zero_stage=1, 2 or 3"
        yield f"data_types.grad_accum_dtype is {dtype}, but the setting {text}; write {fit}"


def _schedule(training: TrainingConfig, passed: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the `scheduler` section as a whole."""
    kind = passed.get("scheduler.type")
    given = [path for path in passed if path.startswith("scheduler.params.")]
    if kind is None:
        if given:
            yield f"scheduler has no type; write one of {', '.join(SCHEDULERS)}"
        return
    ours, known = SCHEDULERS[kind]
    if training.lr_scheduler != ours:
        text = f"scheduler.type is {kind}, but the setting lr_scheduler is {training.lr_scheduler}"
        yield f"{text}; write lr_scheduler={ours}, or remove the section"
    if training.generator_learning_rate is not None:
        yield "scheduler: DeepSpeed's schedules have one learning rate for all; remove it, or generator_learning_rate"
    for path in given:
        if path.rpartition(".")[2] not in known:
            yield f"{path}: {kind} has no such parameter; it has {', '.join(known)}"
    if training.warmup_ratio is None and training.warmup_steps < 2:
        text = f"the setting warmup_steps is {training.warmup_steps}, but DeepSpeed warms up for 2 at least"
        yield f"scheduler: {text}; write warmup_steps=2 or more, or remove the section"
