"""What builds and runs images here: a Docker engine, or without one buildah, podman and runc."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

BASE = "python:3.11-slim"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WITHOUT_DOCKER = ("buildah", "podman", "runc")
_OF_PIP = (
    "index-url",
    "extra-index-url",
    "find-links",
    "cert",
    "proxy",
    "timeout",
    "trusted-host",
    "retries",
)


class EngineError(Exception):
    """What is missing here, and how to get it."""


class Engine:
    """A Docker engine; all commands go through its client."""

    name = "docker"
    client: tuple[str, ...] = ("docker",)
    for_run: tuple[str, ...] = ()

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.environment = dict(os.environ)

    def call(
        self, *words: str, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return _call([*self.client, *words], self.environment, check, timeout)

    def prepare(self) -> list[str]:
        """Have the base image; returns what the reader of the log should know."""
        return []

    def build(self, context: Path, image: str, arguments: dict[str, str], pip: Pip) -> None:
        if pip.folders:
            raise EngineError(
                f"pip is told to look into {pip.folders}; a Docker engine's build cannot see folders"
            )
        self.call(
            "build", *pip.secrets(self.scratch), *_build_arguments(arguments), "-t", image, str(context)
        )

    def layers(self, image: str) -> list[tuple[float, str]]:
        """(bytes, what made it) of each layer that is not empty, the base's first."""
        text = self.call("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", image).stdout
        rows = [line.split("\t", 1) for line in text.splitlines()]
        found = [(_bytes(size), re.sub(r"\s+", " ", made)) for size, made in rows]
        return [(size, made) for size, made in found[::-1] if size]

    def run(
        self, image: str, words: Sequence[str], options: Sequence[str] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run in the foreground, without a network, on a root file system that cannot be written."""
        return self.call("run", "--rm", *self.for_run, *_closed(options), image, *words, check=check)

    def start(self, image: str, words: Sequence[str], options: Sequence[str] = ()) -> str:
        """The same in the background; returns the container's id."""
        return self.call("run", "-d", *self.for_run, *_closed(options), image, *words).stdout.split()[-1]

    def ended(self, container: str) -> int | None:
        """The exit code; None while it runs."""
        state = json.loads(self.call("inspect", "--format", "{{json .State}}", container).stdout)
        return None if state["Status"] == "running" else int(state["ExitCode"])

    def remove(self, image: str) -> None:
        """Take away the image; a Docker engine's layers and base may be others' too."""
        self.call("rmi", "-f", image, check=False)

    def logs(self, container: str) -> str:
        done = self.call("logs", container)
        return done.stdout + done.stderr


class Podman(Engine):
    """buildah builds, podman and runc run, in a storage of their own below `scratch`. Needs root."""

    name = "buildah, podman, runc"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self.client = ("podman", "--runtime", str(shutil.which("runc")))
        if not Path("/run/systemd/system").exists():
            self.client += ("--cgroup-manager=cgroupfs", "--events-backend=file")
        # By default podman asks for more than a process of a container may have.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.for_run = (
            "--ulimit",
            f"nofile={files}:{files}",
            "--ulimit",
            "nproc=4096:4096",
            "--no-healthcheck",
        )
        store = scratch / "storage"
        (store / "tmp").mkdir(parents=True, exist_ok=True)
        conf = store / "storage.conf"
        conf.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{store}/graph"\nrunroot = "{store}/run"\n'
        )
        self.environment |= {"CONTAINERS_STORAGE_CONF": str(conf), "TMPDIR": str(store / "tmp")}

    def prepare(self) -> list[str]:
        if self.call("image", "exists", BASE, check=False).returncode == 0:
            return [f"base: the {BASE} that was here already"]
        pulled = self.call("pull", "-q", f"docker.io/library/{BASE}", check=False, timeout=300)
        if pulled.returncode == 0:
            return []
        if not shutil.which("debootstrap"):
            raise EngineError(
                f"{BASE} cannot be pulled, and there is no debootstrap to make one: {pulled.stderr[-300:]}"
            )
        self._make_base()
        return [f"base: NOT the real {BASE}, which cannot be pulled here, but Debian 12 with its Python 3.11"]

    def _make_base(self) -> None:
        """An image of that name from Debian's packages."""
        root = self.scratch / "base"
        packages = "ca-certificates,python3,python3-venv,python3-pip"
        words = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
        _call([*words, os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")], self.environment)
        for name in ("python", "pip"):  # by both names, where the real one has them
            for link in (name, f"{name}3"):
                (root / "usr/local/bin" / link).symlink_to(f"/usr/bin/{name}3")
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
        for place in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / place)
            (root / place / "partial").mkdir(parents=True)
        tar = self.scratch / "base.tar"
        _call(
            [
                "tar",
                "-C",
                str(root),
                "--exclude=./proc/*",
                "--exclude=./sys/*",
                "--exclude=./dev/*",
                "-cf",
                str(tar),
                ".",
            ]
        )
        container = _call(["buildah", "from", "scratch"], self.environment).stdout.strip()
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        for words in (
            ["add", "-q", container, str(tar), "/"],
            ["config", "--env", path, "--cmd", "python3", container],
            ["commit", "-q", "--rm", container, f"docker.io/library/{BASE}"],
        ):
            _call(["buildah", *words], self.environment)
        tar.unlink()
        shutil.rmtree(root)

    def build(self, context: Path, image: str, arguments: dict[str, str], pip: Pip) -> None:
        words = ["buildah", "bud", "--isolation", "chroot", "--pull=never", "--format", "docker", "--layers"]
        volumes = [word for folder in pip.folders for word in ("--volume", f"{folder}:{folder}:ro")]
        words += [
            *pip.secrets(self.scratch),
            *volumes,
            *_build_arguments(arguments),
            "-t",
            image,
            str(context),
        ]
        _call(words, self.environment)

    def remove(self, image: str) -> None:
        """All of the storage is ours."""
        _call(["buildah", "rm", "-a"], self.environment, check=False)
        self.call("rmi", "-a", "-f", check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted(
            (place for place in mounts if place.startswith(f"{self.scratch}/")), reverse=True
        ):
            _call(["umount", place], check=False)


class Pip:
    """The caller's own pip settings, so that a build reaches what the caller reaches."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        listed = _call([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
        for line in listed.splitlines():  # files first, the environment last, as pip has it
            key, _, value = line.partition("=")
            if key.rpartition(".")[2] in _OF_PIP:
                self.settings[key.rpartition(".")[2]] = str(ast.literal_eval(value))
        bundle = self.settings.pop("cert", None) or os.environ.get("SSL_CERT_FILE")
        self.certificates = Path(bundle) if bundle else None
        self.folders = [str(folder) for folder in self._folders() if folder.is_dir()]

    def _folders(self) -> Iterator[Path]:
        """Folders of this machine that pip looks into; an index's pages point beside the index."""
        for key, up in (("find-links", False), ("index-url", True), ("extra-index-url", True)):
            for place in self.settings.get(key, "").split():
                if urlsplit(place).scheme in ("", "file"):
                    path = Path(urlsplit(place).path)
                    yield path.parent if up else path

    def secrets(self, scratch: Path) -> list[str]:
        lines = [f"{key} = {value}" for key, value in self.settings.items()]
        words = []
        if self.certificates:
            lines.append("cert = /etc/pip-ca.pem")
            words += ["--secret", f"id=ca,src={self.certificates}"]
        if lines:
            (scratch / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
            words += ["--secret", f"id=pip,src={scratch / 'pip.conf'}"]
        return words


def choose_engine(scratch: Path) -> Engine:
    """A Docker engine if one answers.

    Raises:
        EngineError: neither that nor what it takes without one.
    """
    if shutil.which("docker") and _call(["docker", "info"], check=False).returncode == 0:
        return Engine(scratch)
    missing = [tool for tool in WITHOUT_DOCKER if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        raise EngineError(
            "no Docker engine answers here; without one this needs root and "
            f"`apt-get install --no-install-recommends {' '.join(WITHOUT_DOCKER)} debootstrap` "
            f"(missing: {', '.join(missing) or 'root'})"
        )
    return Podman(scratch)


def torch_index() -> str:
    """TORCH_INDEX if the caller set it; else torch's own index of CPU builds, where it can be reached."""
    if "TORCH_INDEX" in os.environ:
        return os.environ["TORCH_INDEX"]
    try:
        socket.create_connection((str(urlsplit(CPU_INDEX).hostname), 443), timeout=5).close()
    except OSError:
        return ""
    return CPU_INDEX


def scratch_folder(keep: Path | None) -> Path:
    """A folder for some GB: the one to be kept, or a temporary one."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="hyperformer-docker-"))
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()


def _bytes(text: str) -> float:
    """``1.5 MB``, ``3kB`` -> bytes."""
    number, unit = re.fullmatch(r"([0-9.]+) ?([kMG]?)B", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]


def _closed(options: Sequence[str]) -> list[str]:
    return ["--network=none", "--read-only", "--tmpfs", "/tmp", *options]


def _build_arguments(arguments: dict[str, str]) -> list[str]:
    return [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]


def _call(
    words: Sequence[str],
    environment: dict[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(words, 124, "", f"no end after {timeout} s")
    if check and done.returncode:
        raise EngineError(
            f"{' '.join(words)}\nended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return done
