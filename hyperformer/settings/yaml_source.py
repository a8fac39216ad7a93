"""The one reader of YAML: files of sweeps, profiles and tasks, and ``key=value`` on the command line.

Every value knows its line, so that an error can point at it. Scalars are read by YAML 1.2's core
schema: ``1e-3`` is a number, ``0o14`` is 12, ``no`` and ``1:30:00`` are text. One exception: whole
numbers with leading zeros (``012``) are text, because readers of YAML 1.1 take them as octal.
``${NAME}`` and ``${NAME:-default}`` in a value stand for an environment variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hyperformer.errors import ConfigError, describe_decode_error, line_of, nearest

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PREFIX = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_PREFIX}map", f"{_PREFIX}seq")
_MOST_NODES = 200_000  # aliases of aliases can stand for more values than memory holds


@dataclass(frozen=True)
class YamlNode:
    """A value of a YAML file and its place.

    Attributes:
        value: a scalar, a list of YamlNode, or a dict of str to YamlNode.
        line: counts from 1; 0 on the command line.
        path: how a reader would say it, such as ``grid.seed``.
        written: a scalar as it is written, variables replaced: "1.50" of the number 1.5.
    """

    value: Any
    line: int
    path: str
    file: str
    written: str | None = None

    @property
    def where(self) -> str:
        """File, line and key, as errors give them."""
        location = f"{self.file}, line {self.line}" if self.line else self.file
        return location + (f", {self.path}" if self.path and self.line else "")

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.where}: {message}")

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def texts(self) -> Any:
        """As :meth:`plain`, with numbers as they are written."""
        if isinstance(self.value, dict):
            return {key: item.texts() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.texts() for item in self.value]
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return self.written if is_number else self.value

    def mapping(self, known: Collection[str] | None = None) -> dict[str, YamlNode]:
        """The value as a mapping, of which nothing at all is an empty one.

        Args:
            known: the keys that it can have; None: any.

        Raises:
            ConfigError: it is none, or has an unknown key.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.fail(f"must be a mapping (name: value lines), not {self.value_text()}")
        for key, entry in self.value.items():
            if known is not None and key not in known:
                entry.fail(f"unknown key {key!r}{nearest(key, known)}")
        return self.value

    def sequence(self) -> list[YamlNode]:
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


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same in C, where PyYAML was built with it: seven times as fast, which tells with thousands of values."""


# Texts that the two loaders may read in two ways, or so deep that C may run out of stack: the slow one reads them.
_READ_IN_TWO_WAYS = re.compile("[\t!?&*|>\r\x85\u2028\u2029\ufeff]|[ -]{200}")
_MOST_BRACKETS = 500


def _number(text: str) -> int | float:
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_INT = r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
# Kind of scalar: what it looks like, its first characters, and its value.
_SCALARS: dict[str, tuple[str, list[str], Callable[[str], Any]]] = {
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""], lambda text: None),
    "int": (_INT, list("-+0123456789"), _number),
    "float": (
        rf"{_FLOAT}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
        lambda text: _float(text.lower()),
    ),
    "str": (r"(?s:.*)", [], str),
}
for _loader in (_Loader, _FastLoader):
    _loader.yaml_implicit_resolvers = {}
    for _kind, (_pattern, _first, _) in _SCALARS.items():
        if _first:
            _loader.add_implicit_resolver(f"{_PREFIX}{_kind}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_yaml(path: Path, *, expand: bool = True) -> tuple[str, YamlNode]:
    """A YAML file's text, and its value with places.

    Args:
        expand: whether ``${NAME}`` stands for an environment variable.

    Raises:
        ConfigError: the file cannot be read, is not YAML, gives a key twice, or
            names an environment variable that is not set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {line_of(error)}: {describe_decode_error(error)}") from error
    return text, _parse(text, _Source(str(path), expand))


def read_key_value(key: str, text: str, where: str) -> YamlNode:
    """The value of ``key=value`` on the command line: what the line ``key: value`` of a file means.

    Args:
        where: the argument, for errors.

    Raises:
        ConfigError: the text is not a value.
    """
    root = _parse(f"{key}: {text}", _Source(where, lines=False))
    if not isinstance(root.value, dict) or list(root.value) != [key]:
        root.fail("write one value")
    return root.value[key]


@dataclass(frozen=True)
class _Source:
    """Where a text is from."""

    name: str
    expand: bool = True
    lines: bool = True

    def location(self, mark: yaml.Mark | None, path: str = "") -> YamlNode:
        return YamlNode(None, mark.line + 1 if mark and self.lines else 0, path, self.name)


def _parse(text: str, source: _Source) -> YamlNode:
    is_deep = text.count("[") + text.count("{") > _MOST_BRACKETS
    if source.lines and not is_deep and not _READ_IN_TWO_WAYS.search(text):
        with suppress(yaml.YAMLError):  # the other loader has the words for it
            return _parse_with(_FastLoader, text, source)
    try:
        return _parse_with(_Loader, text, source)
    except yaml.MarkedYAMLError as error:
        location = source.location(error.problem_mark or error.context_mark)
        raise ConfigError(f"{location.where}: not YAML: {error.problem or error}"[:1000]) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source.name}: not YAML: {' '.join(str(error).split())[:1000]}") from error


def _parse_with(kind: type[yaml.SafeLoader], text: str, source: _Source) -> YamlNode:
    loader = None
    try:
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return YamlNode(None, 1, "", source.name)
        if not source.lines:
            last = node.value[-1][1] if isinstance(node, yaml.MappingNode) and node.value else node
            if text[last.end_mark.index :].strip():
                source.location(None).fail("what follows # is a comment; put the value in quotes: '\"a #b\"'")
        return _Converter(loader, source).convert(node, "")
    except RecursionError:
        raise ConfigError(f"{source.name}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Converter:
    """YAML nodes -> YamlNode."""

    def __init__(self, loader: yaml.SafeLoader, source: _Source) -> None:
        self.loader = loader
        self.source = source
        self.open: set[int] = set()
        self.seen = 0

    def convert(self, node: yaml.Node, path: str) -> YamlNode:
        location = self.source.location(node.start_mark, path)
        self.seen += 1
        if id(node) in self.open or self.seen > _MOST_NODES:
            location.fail("an alias (*name) stands for a value that holds itself, or for too much")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        if node.tag not in _COLLECTIONS:
            location.fail(f"the tag {node.tag} is not supported")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return replace(location, value=dict(self._items(node, path)))
            return replace(
                location,
                value=[self.convert(item, f"{path}[{index}]") for index, item in enumerate(node.value)],
            )
        finally:
            self.open.discard(id(node))

    def _items(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, YamlNode]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            location = self.source.location(key_node.start_mark, path)
            if not isinstance(key_node, yaml.ScalarNode):
                location.fail("a key must be a name")
            key = str(key_node.value)
            if key in first:
                location.fail(f"{key!r} is given twice (first on line {first[key]})")
            first[key] = location.line
            value = self.convert(value_node, f"{path}.{key}" if path else key)
            # A block below its key starts a line later; people look for the key.
            yield key, replace(value, line=location.line)

    def _scalar(self, node: yaml.ScalarNode, location: YamlNode) -> YamlNode:
        text, tag = str(node.value), node.tag
        expanded = _VARIABLE.sub(lambda match: self._variable(match, location), text)
        if expanded != text:
            plain = not node.style  # unquoted: what the variable holds may be a number
            text, tag = expanded, self.loader.resolve(yaml.ScalarNode, expanded, (plain, not plain))
        kind = tag.removeprefix(_PREFIX)
        if kind not in _SCALARS:
            location.fail(f"the tag {tag} is not supported")
        pattern, _, value_of = _SCALARS[kind]
        if not re.fullmatch(pattern, text):  # by a tag: !!int 1:30
            location.fail(f"{text[:60]!r} is no {kind} of YAML 1.2")
        try:
            return replace(location, value=value_of(text), written=text)
        except ValueError as error:
            location.fail(f"cannot be read: {error}")

    def _variable(self, match: re.Match[str], location: YamlNode) -> str:
        name, default = match.groups()
        value = os.environ.get(name, "") if self.source.expand else match[0]
        if value:
            return value
        if default is None:
            location.fail(
                f"the environment variable {name} is not set; set it (export {name}=...), "
                f"or write a default: ${{{name}:-value}}"
            )
        return str(default)
