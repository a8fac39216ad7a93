"""YAML whose every value knows its line, so that an error can point at it.

Numbers, truth values and null are read as in YAML 1.2: ``1e-3`` is a number,
``no`` is text, ``1:30:00`` is text. ``${NAME}`` and ``${NAME:-default}`` in a
value stand for an environment variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hyperformer.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")
)
_MOST_NODES = 200_000  # aliases of aliases can stand for more values than memory holds


@dataclass(frozen=True)
class Located:
    """A value of a YAML file and its place.

    `value` is a scalar, a list of Located, or a dict of str to Located; `line`
    counts from 1; `path` is how a reader would say it, such as ``grid.seed``.
    """

    value: Any
    line: int
    path: str
    file: str

    @property
    def where(self) -> str:
        """File, line and key, as errors give them."""
        return f"{self.file}, line {self.line}" + (f", {self.path}" if self.path else "")

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.where}: {message}")

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def mapping(self) -> dict[str, Located]:
        """The value as a mapping; raises ConfigError if it is none. Nothing at all is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.fail(f"must be a mapping (name: value lines), not {self.value_text()}")
        return self.value

    def sequence(self) -> list[Located]:
        """The value as a list; raises ConfigError if it is none, or empty."""
        if not isinstance(self.value, list):
            self.fail(f"must be a list, such as [a, b], not {self.value_text()}")
        if not self.value:
            self.fail("is an empty list")
        return self.value

    def value_text(self) -> str:
        """The value, short, for a message."""
        text = repr(self.plain())
        return text if len(text) <= 60 else f"{text[:57]}..."


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path, environment: Mapping[str, str] | None = None) -> tuple[str, Located]:
    """A YAML file's text, and its value with places.

    Raises:
        ConfigError: the file cannot be read, is not YAML, gives a key twice, or
            names an environment variable that is not set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        converter = _Converter(loader, str(path), os.environ if environment is None else environment)
        if node is None:
            return text, Located(None, 1, "", str(path))
        return text, converter.convert(node, "")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Converter:
    """YAML nodes -> Located."""

    def __init__(self, loader: _Loader, file: str, environment: Mapping[str, str]) -> None:
        self.loader = loader
        self.file = file
        self.environment = environment
        self.open: set[int] = set()
        self.seen = 0

    def convert(self, node: yaml.Node, path: str) -> Located:
        place = Located(None, node.start_mark.line + 1, path, self.file)
        self.seen += 1
        if id(node) in self.open or self.seen > _MOST_NODES:
            place.fail("an alias (*name) stands for a value that holds itself, or for too much")
        if node.tag not in _TAGS:
            place.fail(f"the tag {node.tag} is not supported")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                value: Any = dict(self._items(node, path))
            elif isinstance(node, yaml.SequenceNode):
                value = [self.convert(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
            else:
                assert isinstance(node, yaml.ScalarNode)  # there are three kinds of node
                value = self._scalar(node, place)
        finally:
            self.open.discard(id(node))
        return Located(value, place.line, path, self.file)

    def _items(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Located]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            place = Located(None, line, path, self.file)
            if not isinstance(key_node, yaml.ScalarNode):
                place.fail("a key must be a name")
            key = str(key_node.value)
            if key in first:
                place.fail(f"{key!r} is given twice (first on line {first[key]})")
            first[key] = line
            value = self.convert(value_node, f"{path}.{key}" if path else key)
            # A block below its key starts a line later; people look for the key.
            yield key, Located(value.value, line, value.path, self.file)

    def _scalar(self, node: yaml.ScalarNode, place: Located) -> Any:
        text = str(node.value)
        expanded = _VARIABLE.sub(lambda match: self._variable(match, place), text)
        if expanded != text:
            plain = node.style is None  # unquoted: what the variable holds may be a number
            tag = self.loader.resolve(yaml.ScalarNode, expanded, (plain, not plain))
            node = yaml.ScalarNode(tag, expanded, node.start_mark, node.end_mark, node.style)
        try:
            return self.loader.construct_object(node)
        except ValueError as error:
            place.fail(f"cannot be read: {error}")

    def _variable(self, match: re.Match[str], place: Located) -> str:
        name, default = match.groups()
        value = self.environment.get(name, "")
        if value:
            return value
        if default is None:
            place.fail(
                f"the environment variable {name} is not set; set it (export {name}=...), "
                f"or write a default: ${{{name}:-value}}"
            )
        return str(default)
