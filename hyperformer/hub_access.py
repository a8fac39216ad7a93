"""Whether the Hugging Face hub can be reached: asked once, and quickly. Imports its libraries when it asks."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_PATIENCE_S = 5.0
_TRIES = 2


@functools.cache
def why_offline() -> str:
    """Why files come from the local cache alone; '' if the hub answers. Asked once per process.

    The libraries would try each of their files six times (55 s for a tokenizer that is not there).
    Where the hub does not answer, they are switched to their cache.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reason = ""
    for _ in range(_TRIES):
        try:
            # Any answer counts. The libraries' own session knows of proxies and certificates.
            get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
            return ""
        except Exception as error:  # of the library below, which changes from version to version
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries that are imported later
    if "datasets.config" in sys.modules:
        sys.modules["datasets.config"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return f"the Hugging Face hub ({constants.ENDPOINT}) cannot be reached from this machine: {reason}"


def not_in_cache(error: BaseException) -> str:
    """What to say of an error of the libraries that comes from being offline; '' if it has another cause."""
    from huggingface_hub import constants

    names = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"}
    cause: BaseException | None = error
    while cause is not None and not (names & {base.__name__ for base in type(cause).__mro__}):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not why_offline():
        return ""
    return (
        f"it is not in the cache ({constants.HF_HOME}), and {why_offline()}. Load it once on a machine "
        "that reaches the hub, with the same HF_HOME (for a sweep: `prefetch`)"
    )


def cached_snapshots(name: str, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The folders of a model in the hub's cache. Imports none of the libraries, and asks nobody."""
    home = environment.get("HF_HOME") or "~/.cache/huggingface"
    hub = Path(os.path.expanduser(environment.get("HF_HUB_CACHE") or f"{home}/hub"))
    return sorted((hub / f"models--{name.replace('/', '--')}" / "snapshots").glob("*"))


def hub_revision(name: str) -> str | None:
    """The commit of a model on the hub that the cache holds; None for a folder."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = None if os.path.isdir(name) else try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(path).parent.name if isinstance(path, str) else None
