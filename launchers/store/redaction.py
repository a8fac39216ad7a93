"""Tokens and passwords stay out of files and messages.

Known are the values of variables that are named like a secret, what looks like
a well-known token, and the user part of an address. Files that hold nothing
but secrets are known by name.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping

HIDDEN = b"[hidden]"
_NAME = re.compile(
    r"(.*_)?(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS|API_?KEY|ACCESS_KEY(_ID)?|PRIVATE_KEY)", re.I
)
# One pattern per kind of token. Each begins with its own letters, which makes the search fast.
_SHAPES = [
    re.compile(pattern) for pattern in (
        rb"hf_[A-Za-z0-9]{20,}", rb"api_org_[A-Za-z0-9]{20,}",
        rb"gh[pousr]_[A-Za-z0-9]{30,}", rb"github_pat_\w{30,}", rb"glpat-[\w-]{15,}",
        rb"AKIA[A-Z0-9]{16}", rb"ASIA[A-Z0-9]{16}", rb"sk-(?:proj-|ant-)?[A-Za-z0-9_]{32,}",
    )
]  # fmt: skip
_ADDRESS = re.compile(rb"://(?:[^\s/@'\"]*:[^\s/@'\"]+|[A-Za-z0-9_-]{20,})@")  # https://user:token@host
_FILES = (
    ".env", ".env.*", "*.env", ".netrc", "_netrc", ".git-credentials", ".pypirc", "pip.conf", ".npmrc", "token",
    "stored_tokens", "*.token", "credentials", "credentials.json", "*.pem", "*.key", "id_rsa*", "id_ed25519*",
    "id_ecdsa*", "kaggle.json", ".htpasswd",
)  # fmt: skip
_FOLDERS = frozenset({".aws", ".ssh", ".gnupg", ".huggingface", ".kaggle", ".docker", ".secrets"})
_SHORTEST = 8  # shorter values are words that occur everywhere


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret, by its name or by what is in it.

    >>> is_secret("HF_TOKEN", "x"), is_secret("TOKENIZERS_PARALLELISM", "false")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None or hide(value) != value


def is_secret_file(path: str) -> bool:
    """Whether a file of that relative path holds secrets, by its name.

    >>> is_secret_file("a/.env"), is_secret_file("a/.env.example"), is_secret_file("launchers/job/attempt.py")
    (True, False, False)
    """
    *folders, name = path.lower().split("/")
    if name.endswith((".example", ".sample", ".template")):
        return False
    return not _FOLDERS.isdisjoint(folders) or any(fnmatch.fnmatchcase(name, each) for each in _FILES)


def hide(text: str) -> str:
    """The text with every secret replaced."""
    return hider()(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")


def hider() -> Callable[[bytes], bytes]:
    """:func:`hide` for the content of many files, with the variables of now. What is not text loses known values."""
    values = _values(os.environ)

    def hide_all(data: bytes) -> bytes:
        for value in values:
            data = data.replace(value, HIDDEN)
        if b"\0" in data:
            return data
        for shape in _SHAPES:
            data = shape.sub(HIDDEN, data)
        return _ADDRESS.sub(b"://" + HIDDEN + b"@", data)

    return hide_all


def _values(environment: Mapping[str, str]) -> list[bytes]:
    """The values of the variables that are named like secrets, longest first: one may hold another."""
    found = {
        os.fsencode(value) for name, value in environment.items()
        if len(value) >= _SHORTEST and _NAME.fullmatch(name)
    }  # fmt: skip
    return sorted(found, key=len, reverse=True)
