"""Which checkpoint a run resumes from: the newest that is complete."""

from __future__ import annotations

from hyperformer.errors import CheckpointError
from hyperformer.run_files.checkpoint_folder import CheckpointFolder, Manifest
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.training.log import say


def find_newest(folder: CheckpointFolder, damaged: dict[str, str]) -> tuple[str, Manifest] | None:
    """Name and manifest of the newest complete checkpoint; None if there never was one.

    Damaged ones are renamed, and the user is told.

    Args:
        damaged: name -> why, of checkpoints that are known to be damaged; is changed.

    Raises:
        CheckpointError: there are checkpoints, or there were, and none can be read.
    """
    names, latest = folder.names(), folder.latest()
    for name in reversed(names):
        beat(f"verifying {name}", PATIENT)
        try:
            if name not in damaged:
                manifest = folder.verify(name)
                _report(folder, name, damaged)
                return name, manifest
        except (CheckpointError, OSError) as error:
            damaged[name] = str(error)
    if not names and latest is None:
        return None
    reasons = "; ".join(f"{name}: {why}" for name, why in damaged.items())
    raise CheckpointError(
        f"{folder.path}: no checkpoint can be read ({reasons or f'{latest} is not there any more'}). "
        "Restore one from a copy, or move that folder away to train from the start"
    )


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
    damaged.clear()
