"""The commands of ``sweep.py`` for reviewers: bundle and verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hyperformer import __version__
from hyperformer.errors import ConfigError
from hyperformer.settings.config_files import parse_override
from hyperformer.terminal import printable
from launchers.bundle.planned_runs import read_runs
from launchers.bundle.retrain import BOUND, STEPS, Retrained, retrain
from launchers.cli.output import DONE, SOME_FAILED, Target, print_notes
from launchers.store import redaction


def bundle(target: Target, path: Path | None, with_weights: bool) -> int:
    """Pack the sweep for reviewers."""
    sweep = target.open()
    view = sweep.view()
    made = sweep.bundle(path, with_weights, view)
    print_notes([*view.notes, *made.notes])
    print(f"bundle: {made.path} ({made.files:,} files, {made.bytes / 1e6:,.1f} MB)\nsha256: {made.sha256}")
    return DONE


def verify(path: Path, name: str | None, steps: int | None, paths: Sequence[str]) -> int:
    """Verify a bundle; `name`: a run to train again, for `steps`, with `paths` as KEY=PATH."""
    if name is None and (steps or paths):
        raise ConfigError("--steps and --set belong to --retrain NAME; name a run")
    from launchers.bundle.verify import verify_bundle  # numpy: too slow for the other commands

    moved = dict(map(parse_override, paths))
    with TemporaryDirectory(prefix="bundle-") as place:
        folder = Path(place).resolve() / "bundle"
        folder.mkdir()
        found = verify_bundle(path, folder)
        print(f"bundle of {found.sweep}: {path}\nsha256: {found.sha256}")
        print(f"{found.runs} of {found.planned} runs are done; {found.rows:,} answers scored again")
        faults = [*found.faults]
        _print_faults(faults)
        if name is not None:
            again = retrain(read_runs(folder), name, steps or STEPS, folder.parent / "retrain" / "run", moved)
            print(_retrained_text(again))
            _print_faults(again.faults)
            faults += again.faults
    if faults:
        print(f"not verified: {len(faults)} fault{'s' if len(faults) > 1 else ''}")
        if found.version != __version__:
            print(
                f"HyperFormer {found.version} wrote the bundle; verify it with that version, not with {__version__}"
            )
        return SOME_FAILED
    print(
        "verified: all files are as they were packed; the metrics of all runs follow from their answers, and the "
        f"{found.numbers:,} numbers of the report from the results"
    )
    return DONE


def _print_faults(faults: Sequence[str]) -> None:
    for line in faults:
        print(f"fault: {printable(redaction.hide(line))}")


def _retrained_text(again: Retrained) -> str:
    compared = (
        f"{again.name}, trained again for {again.steps} steps: {again.lines} lines of metrics.jsonl compared"
    )
    if not again.why_bound:
        return f"{compared}, bit by bit"
    return f"{compared}, losses within {BOUND:.0%} ({again.why_bound}); the largest difference is {again.largest:.2%}"
