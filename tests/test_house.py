"""The shape of the project: who may import whom, and names that would shadow others."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

# Top to bottom: each may import what stands below it; two of one line do not import each other.
LAYERS = {
    "hyperformer": [
        {"cli"},
        {"finetune_t5_trainer", "pretrain"},
        {"commands"},
        {"run"},
        {"training", "pretraining"},
        {"answers"},
        {"adapters", "data", "run_files"},
        {"settings"},
        {"files", "disk_space", "terminal", "hub_access", "adapter_folder", "signal_handlers"},
        {"errors"},
    ],
    "launchers": [
        {"sweep"},
        {"cli"},
        {"renew"},
        {"stages"},
        {"api"},
        {"sweep_report"},
        {"open_sweep", "sweep_view"},
        {"bundle"},
        {"submit", "report"},
        {"job", "status"},
        {"slurm"},
        {"store"},
        {"plan"},
    ],
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(package: str, room: str) -> int:
    """Counted from the top."""
    return next(number for number, rooms in enumerate(LAYERS[package]) if room in rooms)


def room(name: str) -> str:
    """'launchers.plan.grid' -> 'plan'."""
    return name.split(".")[1]


@pytest.mark.parametrize("package", LAYERS)
def test_each_room_imports_only_what_stands_below_it(package: str) -> None:
    wrong = []
    for path in modules(package):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if name.endswith(".__init__"):
            continue
        for other in imports(path):
            if not other.startswith(f"{package}.") or room(other).startswith("_"):
                continue
            if room(other) != room(name) and layer(package, room(other)) <= layer(package, room(name)):
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_training_knows_nothing_of_clusters() -> None:
    for path in modules("hyperformer"):
        assert not any(name.split(".")[0] in ("launchers", "submitit") for name in imports(path)), path


@pytest.mark.parametrize("package", LAYERS)
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules(package)}
    graph = {name: imports(path) & names.keys() - {name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_folders_are_small() -> None:
    for package in LAYERS:
        for folder in {path.parent for path in modules(package)}:
            assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 12, folder


@pytest.mark.parametrize("package", LAYERS)
def test_each_room_says_what_is_in_it(package: str) -> None:
    silent = [path for path in modules(package) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_one_file_of_launchers_imports_submitit() -> None:
    users = [
        path.name
        for path in modules("launchers")
        if any(n.split(".")[0] == "submitit" for n in imports(path))
    ]
    assert users == ["submitit_executor.py"]


def test_no_module_shadows_another() -> None:
    """A script in these folders has them first on sys.path."""
    for folder in ("hyperformer", "launchers"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.stem not in sys.stdlib_module_names, path
            found = subprocess.run(
                # Isolated: neither this folder nor PYTHONPATH is looked into.
                [
                    sys.executable,
                    "-I",
                    "-c",
                    f"import importlib.util as u; print(u.find_spec({path.stem!r}))",
                ],
                capture_output=True,
                text=True,
            )
            assert path.stem == "__init__" or found.stdout.strip() == "None", path


def test_commands_that_read_files_import_no_torch() -> None:
    heavy = {"torch", "transformers", "deepspeed", "submitit", "numpy", "importlib.metadata"}
    starts = (
        "sys, hyperformer.cli, hyperformer.run_files.recovery, launchers.sweep, hyperformer.data.contents"
    )
    code = f"import {starts}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
