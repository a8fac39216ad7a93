"""While the image is built: leave out what no run needs, and set torch apart.

    python slim.py VENV TORCH

What goes: test suites of the packages, and headers and static libraries, which only a compiler
reads. What is made: byte code, since a container mostly cannot write it, and without it a run
would start seven seconds later; but only of modules that runs import, for it is a sixth of all. It
bears no times, so that equal files are equal layers. torch and CUDA move below TORCH, at the same
path, to become a layer of their own.
"""

import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

APART = ("torch", "nvidia", "triton")
# With what these import, nearly all that a run does. What is left out costs time where it is imported, no more.
IMPORTED = (
    "torch.distributed.run", "torch.utils.tensorboard", "deepspeed", "datasets", "transformers.generation",
    "transformers.models.auto", "transformers.models.t5.modeling_t5", "sklearn.metrics", "scipy.stats",
    "sacrebleu", "rouge_score.rouge_scorer", "submitit", "rich.progress",
)  # fmt: skip


def unneeded(site: Path) -> list[Path]:
    """Folders and files of `site` that nothing imports or reads."""
    found = [
        folder
        for package in site.iterdir()
        if package.is_dir() and package.suffix != ".dist-info"  # there a folder "test" holds licences
        for folder in package.rglob("test*")
        if folder.is_dir() and folder.name in ("test", "tests")
    ]
    found += [site / package / "include" for package in ("torch", "pyarrow")]
    found += site.glob("nvidia/**/include")
    found += site.rglob("*.a")
    found += [path for path in (site / "torch/bin").glob("*") if path.name != "torch_shm_manager"]
    return [path for path in found if path.exists()]


def remove(paths: list[Path]) -> int:
    """Remove them; returns how many bytes that were."""
    size = 0
    for path in paths:
        if path.is_dir():
            size += sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
            shutil.rmtree(path)
        elif path.exists():  # not gone with a folder above it
            size += path.lstat().st_size
            path.unlink()
    return size


def imported(venv: Path, site: Path) -> list[str]:
    """The files below `site` that importing IMPORTED loads."""
    tell = "print(*(getattr(module, '__file__', '') for module in sys.modules.values()), sep='\\n')"
    ask = f"import {', '.join(IMPORTED)}, sys; {tell}"
    command = [str(venv / "bin/python"), "-B", "-c", ask]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [line for line in listed if line.startswith(f"{site}/") and line.endswith(".py")]


def main(venv: Path, apart: Path) -> None:
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(venv)}))
    print(f"{remove(unneeded(site)) / 1e6:.0f} MB of tests, headers and static libraries left out")
    for path in imported(venv, site):
        py_compile.compile(path, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    target = apart / site.relative_to("/")
    target.mkdir(parents=True)
    for name in APART:
        if (site / name).exists():
            shutil.move(site / name, target / name)  # another layer of the build may hold it: no rename


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
