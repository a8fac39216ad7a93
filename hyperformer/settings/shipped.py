"""Files that a user names by path, or by the name of one that ships: the one place that decides which."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hyperformer.errors import ConfigError, nearest


@dataclass(frozen=True)
class ShippedFiles:
    """One kind of file of which some ship.

    Attributes:
        what: the kind, for errors: "config file".
        suffix: of the files, with its dot.
        folders: where they are; of two files with one name the last folder's is taken.
        prefixes: folders that may precede a name: "configs" in ``configs/adapters.json``.
        others: further names that mean something, for hints.
        advice: what to do about a name that is not there; '' or starts with a blank.
    """

    what: str
    suffix: str
    folders: tuple[Path, ...]
    prefixes: tuple[str, ...]
    others: tuple[str, ...] = ()
    advice: str = ""

    def names(self) -> dict[str, Path]:
        """Every file that ships, by name."""
        found = {path.stem: path for folder in self.folders for path in folder.glob(f"*{self.suffix}")}
        return dict(sorted(found.items()))

    def find(self, name: str | Path, beside: Path | None = None) -> Path:
        """The file that `name` means: a path from the working directory, one from `beside`, or one that ships.

        Raises:
            ConfigError: there is none.
        """
        path = Path(os.path.expanduser(name))
        places = (path, *([beside / path] if beside else []))
        for place in places:
            if os.path.isfile(place):
                return place
        shipped = self.names()
        stem = path.name.removesuffix(self.suffix)
        if path.parent in map(Path, (".", *self.prefixes)) and stem in shipped:
            return shipped[stem]
        if any(os.path.isfile(f"{place}{self.suffix}") for place in places):
            hint = f"; there is a file of that name: write {name}{self.suffix}"
        else:
            hint = nearest(path.stem, [*self.others, *shipped])
        raise ConfigError(f"{name}: no such {self.what}{hint}{self.advice}")
