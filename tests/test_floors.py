"""Imports point down the floors only, and the installed names are used (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"laco_export": "laco_export", "training": "laco_training", "engines": "laco_engines"} | {
    "calibration": "laco_calibration"
}
BASE_LIBRARIES = {"numpy", "PIL", "rich", "yaml", "tokenizers"}
OPTIONAL = {  # imported where they are used; where one is missing, an error says how to get it
    "laco_export.video": {"av"},
    "laco_export.charts": {"matplotlib"},
    "laco_export.onnx_session": {"onnxruntime"},
    "laco_export.quiet": {"onnx_graphsurgeon", "polygraphy"},
    "laco_export.number_formats": {"ml_dtypes"},
}


def floor_of(module: str) -> tuple[int, str]:
    """A module's floor and its room there; rooms of one floor may not import each other."""
    parts = module.split(".")
    if parts[1:2] in (["cli"], ["commands"], ["__main__"]):
        return 5, parts[0]
    if parts[0] == "laco_export":
        if parts[1:2] == ["models"]:
            return 1, "models"
        return (2, "exporter") if parts[1:2] == ["exporter"] else (0, "base")
    return (4 if parts[0] == "laco_calibration" else 3), parts[0]


def sources() -> list[tuple[Path, str]]:
    found = []
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found.append((path, ".".join((package, *(part for part in parts if part != "__init__")))))
    return found


def imports_of(path: Path, module: str) -> list[str]:
    """Absolute names of what a file imports, wherever in the file."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, node.module] if node.module else start)
            # "from . import x" may name a module or a value: a module is what matters for the floor.
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def violations(path: Path, module: str) -> list[str]:
    floor, room = floor_of(module)
    wrong = []
    for name in imports_of(path, module):
        top = name.split(".")[0]
        if top in set(PACKAGES) - {"laco_export"}:
            wrong.append(f"{module} imports {name}: use the installed name laco_{top}")
        elif top in PACKAGES.values():
            target, target_room = floor_of(name)
            if target > floor or (target == floor and target_room != room):
                wrong.append(f"{module} (floor {floor}, {room}) imports {name} (floor {target}, {target_room})")
    return wrong


def test_imports_point_down():
    files = sources()
    assert len(files) > 30
    assert [line for path, module in files for line in violations(path, module)] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("laco_export.depth", "from .models import LacoConfig"),
        ("laco_export.models.vision", "import laco_export.exporter.pipeline"),
        ("laco_training.trainer", "from laco_engines.runtime import open_runtime"),
        ("laco_engines.runtime", "from engines import cli"),
        ("laco_engines.runtime", "def f():\n    from .cli import main"),
        ("laco_export.exporter.proof", "from laco_calibration import ranges"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, module, line):
    path = tmp_path / "wrong.py"
    path.write_text(line)
    assert violations(path, module)


def test_the_base_needs_only_small_libraries():
    import sys

    for path, module in sources():
        if floor_of(module) == (0, "base"):
            tops = {name.split(".")[0] for name in imports_of(path, module)} - {"laco_export", ""}
            assert tops - OPTIONAL.get(module, set()) <= BASE_LIBRARIES | set(sys.stdlib_module_names), module


def test_every_package_folder_is_in_the_wheel():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {module for path, module in sources() if path.name == "__init__.py"}
    assert listed == present
