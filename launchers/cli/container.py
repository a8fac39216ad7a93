"""What the container image starts: ``docker run IMAGE sweep|train|params|check|bash ...``; see docs/docker.md."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperformer.errors import nearest
from hyperformer.terminal import prepare_streams
from launchers.cli.container_check import check, notes
from launchers.submit.local_queue import gpus

WORK, CACHE, COMMIT = Path("/work"), Path("/cache"), Path(sys.prefix) / "commit"
LOCK, SHARED_NAME = ".hyperformer.lock", "container"
BAD_INPUT = 2
# The subcommands of `hyperformer`; each is a command of the image too.
OF_HYPERFORMER = (
    "train",
    "params",
    "data",
    "list",
    "predict",
    "evaluate",
    "rescore",
    "export",
    "similarity",
    "push",
    "convert",
)

USAGE = """\
usage: docker run [options] IMAGE COMMAND ...

  sweep SWEEP [...]         what `hyperformer-sweep` does: run a sweep, plan, status, report, ...
  train CONFIG [key=value]  one run, on all GPUs that the container has, or on the CPU
  params, data, list, predict, evaluate, rescore, export, similarity, push, convert
                            as `hyperformer` has them; COMMAND --help says more
  check [--quick]           versions, GPUs, and whether the folders can be written
  bash, python, ...         any program of the image

  docker run --rm IMAGE params hyperformer++
  docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" \\
    -v "$PWD":/work -v hyperformer-cache:/cache IMAGE sweep sweeps/demo.yaml

The folder /work is where commands run and where runs/ and outputs/ are written; models, data sets and
tokenised rows are kept in /cache. `docker stop --timeout 120` lets runs save, and the same command resumes them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    os.environ.update(environment(os.environ, WORK, CACHE))
    if words[0] == "check":
        return check(WORK, CACHE, quick="--quick" in words[1:])
    command = program(words, len(gpus()) if words[0] == "train" else 0)
    if command is None:
        known = ("sweep", "check", *OF_HYPERFORMER)
        print(
            f"error: {words[0]}: no command or program of the image{nearest(words[0], known)}",
            file=sys.stderr,
        )
        return BAD_INPUT
    if words[0] in ("sweep", "train"):
        for note in notes(WORK):
            print(f"note: {note}", file=sys.stderr)
    if words[0] in ("sweep", "bash"):
        os.environ["HYPERFORMER_HOST"] = _host(WORK)
    sys.stdout.flush()
    os.execvp(command[0], command)


def program(words: Sequence[str], gpu_count: int) -> list[str] | None:
    """The program that a command of the image starts; None if there is none."""
    name, rest = words[0], words[1:]
    if name == "sweep":
        return ["hyperformer-sweep", *rest]
    if name == "train" and gpu_count > 1 and not {"-h", "--help"} & set(rest):
        # torchrun hands SIGTERM on to the ranks and lets them save; deepspeed's launcher kills them.
        ranks = ["--standalone", "--nproc-per-node", str(gpu_count)]
        return ["torchrun", *ranks, "-m", "hyperformer.finetune_t5_trainer", *rest]
    if name in OF_HYPERFORMER:
        return ["hyperformer", *words]
    return list(words) if shutil.which(name) else None


def environment(before: Mapping[str, str], work: Path, cache: Path) -> dict[str, str]:
    """What the container's environment lacks, above all when ``--user`` names an uid that nobody here has."""
    found = {}
    home = Path(before.get("HOME") or "/")
    # Some engines take the working folder for the home of a user that they do not know.
    homes = [cache, *([] if home == work else [home]), Path(tempfile.gettempdir())]
    found["HOME"] = str(next((home for home in homes if os.access(home, os.W_OK)), homes[-1]))
    try:
        getpass.getuser()
    except (KeyError, OSError):  # torch asks for it too, and does not expect that there is none
        found["USER"] = f"uid{os.getuid()}"
    if COMMIT.is_file():  # there is no git in the image
        found["HYPERFORMER_COMMIT"] = COMMIT.read_text().strip()
    return found


def _host(work: Path) -> str:
    """A name for "this machine" in the sweep's files.

    Every container has a host name of its own, and nobody can tell from it whether
    the container is gone. So one at a time holds a lock on the folder, which the
    kernel takes back when it ends, however that is. Who has the lock knows that
    the processes of earlier containers are gone, and bears the same name as they did.
    """
    own = socket.gethostname().encode()
    try:
        descriptor = os.open(work / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # it cannot be written: the command will say so
        return own.decode()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Another one has it; or this very container, which `docker exec` has entered once more.
        return SHARED_NAME if os.read(descriptor, 256) == own else own.decode()
    os.ftruncate(descriptor, 0)
    os.write(descriptor, own)
    os.set_inheritable(descriptor, True)  # the command that takes our place keeps it
    return SHARED_NAME


if __name__ == "__main__":
    sys.exit(main())
