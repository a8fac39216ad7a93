"""A bundle as a file: a zip archive with the SHA-256 of each file in it, written atomically and unpacked with care.

Equal files give equal archives: names are sorted, times and permissions are fixed. What is unpacked may come from
anybody. Names that lead out of the folder, links and archives that are far larger unpacked are refused.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hyperformer.disk_space import FULL
from hyperformer.errors import FileError, HyperformerError
from hyperformer.files import atomic_write, file_digest, read_object

MANIFEST = "manifest.json"
SUFFIX = ".zip"
SCHEMA = 1
Content = bytes | Path
"""What a file of the archive holds; of a large one, where it is."""
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip archive can hold."""
_REGULAR = (stat.S_IFREG | 0o644) << 16
_UNIX = 3
_BLOCK = 1 << 20
_MOST_FILES = 200_000
_MOST_JSON = 256 << 20
_MOST_RATIO, _FREE = 100, 64 << 20
"""Unpacked, an archive has at most so many times its own bytes, the first 64 MiB not counted."""


def write_bundle(path: Path, files: Mapping[str, Content], about: Mapping[str, Any]) -> str:
    """Write an archive; returns its SHA-256.

    Args:
        files: content by name in the archive.
        about: what the manifest says besides.

    Raises:
        HyperformerError: as :func:`check_name`, or a file changed meanwhile; nothing was written.
    """
    check_name(path)
    listed = {name: _describe(content) for name, content in sorted(files.items())}
    manifest = json.dumps({"schema": SCHEMA, **about, "files": listed}, indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path, "wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        _add(archive, MANIFEST, f"{manifest}\n".encode())
        for name, about_file in listed.items():
            if _add(archive, name, files[name]) != about_file["sha256"]:
                raise HyperformerError(f"{files[name]!s} changed while it was packed; give the command again")
    return file_digest(path)


def check_name(path: Path) -> None:
    """See that a bundle can be written there.

    Raises:
        HyperformerError: there is such a file already, or its name does not end with .zip.
    """
    if path.suffix != SUFFIX:
        raise HyperformerError(f"{path}: a bundle is a zip archive; write a name that ends with {SUFFIX}")
    if os.path.lexists(path):
        raise HyperformerError(f"{path} already exists; name another file with -o, or move it away")


def _describe(content: Content) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"sha256": file_digest(content), "bytes": content.stat().st_size}


def _add(archive: zipfile.ZipFile, name: str, content: Content) -> str:
    """Add a file; returns its SHA-256 as it was read now."""
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _REGULAR
    digest = hashlib.sha256()
    with (
        archive.open(info, "w", force_zip64=not isinstance(content, bytes)) as target,
        io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source,
    ):
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def unpack(path: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Unpack an archive into an empty folder, and compare each file with the manifest.

    Returns:
        The manifest, and a line for each file that is missing, added or not as it was packed.

    Raises:
        FileError: it is not a bundle, is cut, or is not safe to unpack.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in _checked(path, archive)}
            if MANIFEST not in entries:
                raise FileError(f"{path} is no bundle: it has no {MANIFEST}")
            faults = [fault for entry in entries.values() for fault in _extract(archive, entry, folder)]
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file") from None
    except FileError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        # An archive whose beginning is missing asks for a place before the file's start.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise FileError(f"{path} is no zip archive, or a part of it is missing: {error}") from error
    manifest = _manifest(path, folder / MANIFEST)
    return manifest, [*faults, *_compare(manifest["files"], folder, entries.keys() - {MANIFEST})]


def _checked(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The entries of an archive that is safe to unpack; raises FileError."""
    entries = archive.infolist()
    if len(entries) > _MOST_FILES:
        raise FileError(f"{path}: refused: it has {len(entries):,} files, and {_MOST_FILES:,} are allowed")
    seen: set[str] = set()
    for entry in entries:
        why = _why_unsafe(entry)
        if entry.filename in seen:
            why = "it is there twice"
        if why:
            raise FileError(f"{path}: refused, and nothing was unpacked: {entry.filename!r}: {why}")
        seen.add(entry.filename)
    for name in seen:
        above = next((str(one) for one in PurePosixPath(name).parents if str(one) in seen), None)
        if above:
            raise FileError(f"{path}: refused, and nothing was unpacked: {above!r} is a file and a folder")
    total, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > _allowed(packed):
        raise FileError(
            f"{path}: refused, and nothing was unpacked: its {packed:,} bytes would become {total:,}, more than "
            f"{_MOST_RATIO} times as many"
        )
    return entries


def _allowed(packed: int) -> int:
    return _MOST_RATIO * packed + _FREE


def _why_unsafe(entry: zipfile.ZipInfo) -> str:
    name, mode = entry.filename, entry.external_attr >> 16
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ":" in parts[0] or not {"", ".", ".."}.isdisjoint(parts):
        return "its name is no plain relative path"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    if entry.flag_bits & 1:
        return "it is encrypted"
    return ""


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> Iterator[str]:
    """Unpack one file; yields why that fails."""
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(entry) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _BLOCK)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise FileError(
            f"{folder}: {error.strerror}; set TMPDIR to a folder with room for the bundle"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        yield f"{entry.filename}: cannot be unpacked: {error}"
    if entry.filename.endswith(".gz"):
        _check_packed_again(entry.filename, target)


def _check_packed_again(name: str, path: Path) -> None:
    """See that a compressed file is not an archive bomb; what else is wrong with it, its reader says."""
    allowed, found = _allowed(path.stat().st_size), 0
    unpacker = zlib.decompressobj(wbits=31)
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                while block and not unpacker.eof:
                    found += len(unpacker.decompress(block, _BLOCK))
                    block = unpacker.unconsumed_tail
                    if found > allowed:
                        raise FileError(
                            f"{name}: refused: unpacked, it has more than {_MOST_RATIO} times its bytes"
                        )
                if unpacker.eof and (unpacker.unused_data or block):  # gzip allows several parts
                    raise FileError(f"{name}: refused: something follows its compressed data")
    except zlib.error:
        return


def _manifest(path: Path, manifest: Path) -> dict[str, Any]:
    found = read_object(manifest, where=MANIFEST, most_bytes=_MOST_JSON, keys_once=True)
    files = found.get("files")
    is_list = isinstance(files, dict) and all(
        isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in files.values()
    )
    if not is_list:
        raise FileError(f"{path}: {MANIFEST} is damaged: it lists no files")
    if not str(found.get("sweep")).isprintable():  # it is shown on a terminal
        raise FileError(f"{path}: {MANIFEST} is damaged: the sweep's name is {found['sweep']!a}")
    if found.get("schema") != SCHEMA:
        raise FileError(
            f"{path}: its manifest has schema {found.get('schema')!r}, and this version of HyperFormer knows {SCHEMA}; "
            "use the version that wrote it"
        )
    return found


def read_bundled(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a bundle; raises FileError if there is none."""
    return read_object(path, where=path.name, most_bytes=_MOST_JSON)


def _compare(listed: Mapping[str, Any], folder: Path, there: set[str]) -> Iterator[str]:
    for name in sorted(listed.keys() | there):
        if name not in there:
            yield f"{name}: is missing"
        elif name not in listed:
            yield f"{name}: was added: {MANIFEST} does not list it"
        elif (digest := file_digest(folder / name)) != listed[name]["sha256"]:
            yield f"{name}: is not as it was packed: SHA-256 {digest[:16]}..., listed {listed[name]['sha256'][:16]}..."
