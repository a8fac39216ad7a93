"""The shape of the project: who may import whom, and names that would shadow others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from places import ROOT

# A package may import what stands to its left, never to its right.
LAYERS = [
    {
        "config",
        "config_checks",
        "errors",
        "files",
        "authors_config",
        "config_files",
        "run_folder",
        "checkpoint_folder",
        "recovery",
        "watchdog",
    },
    {"adapters", "data", "metrics"},
    {"training"},
    {"run"},
]


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


def layer(name: str) -> int | None:
    return next((number for number, names in enumerate(LAYERS) if name in names), None)


def test_imports_go_one_way() -> None:
    for path in modules("hyperformer"):
        names = imports(path)
        assert not any(name.split(".")[0] in ("launchers", "submitit") for name in names), path
        own = layer(path.relative_to(ROOT / "hyperformer").parts[0].removesuffix(".py"))
        if own is None:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "hyperformer" and len(parts) > 1:
                other = layer(parts[1])
                assert other is None or other <= own, f"{path} imports {name}"


def test_one_file_of_launchers_imports_submitit() -> None:
    users = [
        path.name
        for path in modules("launchers")
        if any(n.split(".")[0] == "submitit" for n in imports(path))
    ]
    assert users == ["cluster.py"]


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
    heavy = {"torch", "transformers", "deepspeed", "submitit"}
    code = f"import sys, hyperformer.cli, hyperformer.recovery, launchers.sweep; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
