"""Which checkpoint a run resumes from: the newest that is complete. The ranks share the reading."""

from __future__ import annotations

from hyperformer.errors import CheckpointError
from hyperformer.run_files.checkpoint_folder import CheckpointFolder, Manifest
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.training.log import say
from hyperformer.training.ranks.distributed import DistributedContext


def find_newest(
    folder: CheckpointFolder, damaged: dict[str, str], context: DistributedContext
) -> tuple[str, Manifest] | None:
    """Name and manifest of the newest complete checkpoint; None if there never was one.

    Damaged ones are renamed, and the user is told. Every rank calls this.

    Args:
        damaged: name -> why, of checkpoints that are known to be damaged, the same names on every rank; is changed.

    Raises:
        CheckpointError: there are checkpoints, or there were, and none can be read.
    """
    names, latest = context.on_main(lambda: (folder.names(), folder.latest()))
    for name in reversed(names):
        if name in damaged:
            continue
        beat(f"verifying {name}", PATIENT)
        manifest, faults = _verify(folder, name, context)
        if manifest is not None and not faults:
            context.on_main(lambda name=name: _report(folder, name, damaged))  # type: ignore[misc]
            damaged.clear()
            return name, manifest
        damaged[name] = faults[0]
    if not names and latest is None:
        return None
    reasons = "; ".join(f"{name}: {why}" for name, why in damaged.items())
    raise CheckpointError(
        f"{folder.path}: no checkpoint can be read ({reasons or f'{latest} is not there any more'}). "
        "Restore one from a copy, or move that folder away to train from the start"
    )


def _verify(
    folder: CheckpointFolder, name: str, context: DistributedContext
) -> tuple[Manifest | None, list[str]]:
    """A checkpoint's manifest, and what is wrong with it; each rank reads its share of the files."""
    try:
        manifest = context.on_main(lambda: folder.manifest(name))
    except (CheckpointError, OSError) as error:
        return None, [str(error)]
    fault = None
    try:
        folder.check_files(name, manifest, share=(context.rank, context.size))
    except (CheckpointError, OSError) as error:
        fault = str(error)
    return manifest, [other for other in context.gather(fault) if other is not None]


def _report(folder: CheckpointFolder, chosen: str, damaged: dict[str, str]) -> None:
    """Rename what is damaged; say why the run does not resume from the newest."""
    for name, why in damaged.items():
        renamed = folder.retire(name, "damaged")
        say(f"{name} is damaged ({why}); renamed to {renamed.name}, resuming from {chosen}")
    latest = folder.latest()
    # Renamed above, or a checkpoint that was lost; a kill between its name and `latest` leaves an older one.
    if latest and not damaged and folder.is_newer(latest, chosen):
        say(f"{latest}, the newest checkpoint, is not there any more; resuming from {chosen}")
    if latest != chosen:
        folder.set_latest(chosen)
