"""Imports point down the floors only, siblings never import each other both ways, and the installed names are used
(docs/architecture.md)."""

from collections import defaultdict
from collections.abc import Sequence
from sys import stdlib_module_names

import pytest
import tomllib
from source_tree import PACKAGES, ROOT, Module, modules

BASE_LIBRARIES = {"numpy", "PIL", "rich", "yaml", "tokenizers"}
OPTIONAL = {  # imported where they are used; where one is missing, an error says how to get it
    "laco_export.video": {"av"},
    "laco_export.charts": {"matplotlib"},
    "laco_export.onnx_session": {"onnxruntime"},
    "laco_export.quiet": {"onnx_graphsurgeon", "polygraphy"},
    "laco_export.number_formats": {"ml_dtypes"},
    "laco_export.optimum_conflict": {"packaging"},
}
FOLDER_FLOORS = {
    "laco_engines": (
        ("commands",),
        ("report", "plan", "attribution"),
        ("serving", "bench", "evaluation"),
        ("building",),
        ("comparison",),
        ("runtimes", "generation"),
        ("store", "cost", "prompts"),
        ("devices",),
    ),
    "laco_calibration": (("blocks",), ("quantizing",), ("smoothing",), ("statistics",), ("graph", "source")),
}
"""Package → its folders from the top floor down. A folder imports folders below it, never one beside or above it."""


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


def violations(module: Module) -> list[str]:
    floor, room = floor_of(module.name)
    wrong = []
    for name in module.imports:
        top = name.split(".")[0]
        if top in set(PACKAGES) - {"laco_export"}:
            wrong.append(f"{module.name} imports {name}: use the installed name laco_{top}")
        elif top in PACKAGES.values():
            target, target_room = floor_of(name)
            if target > floor or (target == floor and target_room != room):
                wrong.append(f"{module.name} (floor {floor}, {room}) imports {name} (floor {target}, {target_room})")
    return wrong


def folder_of(name: str, folders: set[str]) -> str | None:
    """The package's folder that a module or an imported name belongs to, ``laco_engines.store``; None for the root."""
    parts = name.split(".")
    folder = ".".join(parts[:2])
    return folder if folder in folders else None


def folder_arrows(every: Sequence[Module]) -> dict[tuple[str, str], list[str]]:
    """(importing folder, imported folder) of one package → the imports that make the arrow."""
    folders = {module.name for module in every if module.is_package and module.name.count(".") == 1}
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in every:
        source = folder_of(module.name, folders)
        for name in module.imports:
            target = folder_of(name, folders)
            same_package = name.split(".")[0] == module.name.split(".")[0]
            if source and target and source != target and same_package:
                arrows[source, target].append(f"{module.name} imports {name}")
    return arrows


def circles(every: Sequence[Module]) -> list[str]:
    """Pairs of sibling folders that import each other both ways."""
    arrows = folder_arrows(every)
    return [f"{a} and {b}: {imports[0]}; {arrows[b, a][0]}" for (a, b), imports in arrows.items() if (b, a) in arrows]


def upward_imports(every: Sequence[Module]) -> list[str]:
    """Imports between a package's folders that do not point down :data:`FOLDER_FLOORS`."""
    floors = {
        f"{package}.{folder}": level
        for package, levels in FOLDER_FLOORS.items()
        for level, folders in enumerate(levels)
        for folder in folders
    }
    return [
        line
        for (source, target), imports in folder_arrows(every).items()
        if source.split(".")[0] in FOLDER_FLOORS and not floors[source] < floors[target]
        for line in imports
    ]


def test_imports_point_down():
    every = modules()
    assert len(every) > 200
    assert [line for module in every for line in violations(module)] == []


def test_sibling_folders_do_not_import_each_other_both_ways():
    assert circles(modules()) == []


def test_the_folders_of_a_package_import_down_their_floors_only():
    every = modules()
    for package, levels in FOLDER_FLOORS.items():
        listed = {folder for folders in levels for folder in folders}
        present = {module.name for module in every if module.is_package and module.name.startswith(f"{package}.")}
        assert {f"{package}.{folder}" for folder in listed} == present, "every folder has its floor"
    assert upward_imports(every) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("laco_export.depth", "from .models import LacoConfig"),
        ("laco_export.models.vision", "import laco_export.exporter.pipeline"),
        ("laco_training.trainer", "from laco_engines.runtimes import open_runtime"),
        ("laco_engines.answering", "from engines import cli"),
        ("laco_engines.doctor", "def f():\n    from .cli import main"),
        ("laco_export.exporter.proof", "from laco_calibration import ranges"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, module, line):
    path = tmp_path / "wrong.py"
    path.write_text(line)
    assert violations(Module(module, path))


def planted(tmp_path, name: str, text: str) -> Module:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return Module(name, path)


def test_a_circle_of_folders_is_found(tmp_path):
    back = planted(tmp_path, "laco_engines.runtimes.wrong", "from ..comparison.golden_check import check_golden")
    (line,) = circles([*modules(), back])[:1]
    assert "laco_engines.comparison" in line and "laco_engines.runtimes.wrong" in line


def test_an_import_up_the_folders_is_found(tmp_path):
    up = planted(tmp_path, "laco_engines.devices.wrong", "from ..bench import measure")
    assert upward_imports([*modules(), up]) == ["laco_engines.devices.wrong imports laco_engines.bench.measure"]


def test_the_base_needs_only_small_libraries():
    for module in modules():
        if floor_of(module.name) == (0, "base"):
            tops = {name.split(".")[0] for name in module.imports} - {"laco_export", ""}
            assert tops - OPTIONAL.get(module.name, set()) <= BASE_LIBRARIES | set(stdlib_module_names), module.name


def test_every_package_folder_is_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {module.name for module in modules() if module.is_package}
