"""One room for each fact, one thing for each name, a map in each package, and a test beside each source.

Each guard is a function of the tree, and is shown to find a planted fault.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from source_tree import PACKAGES, ROOT, Module, members, modules

ENTRY_POINTS = {"main", "build_parser"}
"""Every command line has these."""

ROOMS = {
    r"\bInferenceSession\(": "laco_export.onnx_session",
    r"\bSessionOptions\(": "laco_export.onnx_session",
    r"[\"'/]proc/|sys/fs/cgroup": "laco_export.machine",
    r"\btoken_indices/|[\"']tokens/[\"'{]": "laco_export.golden",
    r"[\"']golden\.npz[\"']": "laco_export.golden",
    r"[\"']\.jpe?g[\"']": "laco_export.picture_files",
    r"<\|im_(start|end)\|>[\"'{\\]": "laco_export.chat_format",
    r"\.savefig\(|\bpyplot\b": "laco_export.charts",
    r"[\"']int7[\"']|\b448\.0\b": "laco_export.number_formats",
}
"""What only one module may hold, outside docstrings and comments."""

WITNESSES = "laco_export.exporter.witnesses."
"""These know a fact a second time, so that one place that is wrong is seen."""

EMPTY_WORDS = {"found", "one", "given", "how", "kept", "known"}
"""Locals are named by what they hold, and these say nothing of it."""

SAYS_WHAT_IT_HOLDS = {("laco_export.errors", "given")}
"""A :class:`LacoError`'s ``given`` is what the user gave."""

WHOLE = "whole"
"""tests/whole: what tests a package, a command or the documentation as a whole."""


def shared_names(every: Sequence[Module]) -> dict[str, list[str]]:
    """Public names that several modules define."""
    places = defaultdict(list)
    for module in every:
        for name in module.public_names - ENTRY_POINTS:
            places[name].append(module.name)
    return {name: where for name, where in places.items() if len(where) > 1}


def code_of(module: Module) -> str:
    """The module's text without docstrings and comments."""
    tree = ast.parse(module.text)
    for node in ast.walk(tree):
        if hasattr(node, "body") and isinstance(node.body, list):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    statement.value.value = ""
    return ast.unparse(tree)


def strangers(every: Sequence[Module]) -> list[str]:
    """Places outside its room that know a fact of :data:`ROOMS`."""
    lines = []
    for module in every:
        code = "" if module.name.startswith(WITNESSES) else code_of(module)
        for pattern, room in ROOMS.items():
            if module.name != room and re.search(pattern, code):
                lines.append(f"{module.name} has {pattern}, whose room is {room}")
    return lines


def left_out_of_maps(every: Sequence[Module]) -> list[str]:
    """Modules and sub-packages that their package's docstring does not name."""
    return [
        f"{package.name}'s docstring does not name {member}"
        for package in every
        if package.is_package
        for member in members(package, every)
        if member != "__main__" and not re.search(rf"`\.{member}`", package.docstring)
    ]


def orphaned_tests(tests: Path, every: Sequence[Module]) -> list[str]:
    """Test files whose place and name are no module's or package's."""
    sources = {module.name for module in every}
    lost = []
    for folder, package in PACKAGES.items():
        for path in sorted((tests / folder).rglob("test_*.py")):
            parts = (*path.relative_to(tests / folder).parent.parts, path.stem.removeprefix("test_"))
            if ".".join((package, *parts)) not in sources:
                lost.append(path.relative_to(tests).as_posix())
    return lost


def empty_words(module: Module) -> list[str]:
    """Bindings of :data:`EMPTY_WORDS` in a module."""
    fields = {
        statement.target
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }  # of dataclasses, which files and reports may spell so
    bound = []
    for node in ast.walk(module.tree):
        if node in fields:
            continue
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        if name in EMPTY_WORDS and (module.name, name) not in SAYS_WHAT_IT_HOLDS:
            bound.append(f"{module.name}:{node.lineno} {name}")
    return bound


@pytest.fixture(scope="module")
def every() -> Sequence[Module]:
    return modules()


@pytest.fixture
def plant(tmp_path, every):
    """``plant(name, text)``: the tree with one module more."""

    def add(name: str, text: str, file: str = "planted.py") -> list[Module]:
        path = tmp_path / file
        path.write_text(text)
        return [*every, Module(name, path)]

    return add


def test_a_public_name_is_defined_once(every):
    assert shared_names(every) == {}


def test_a_second_definition_is_found(plant):
    assert "laco_engines.planted" in shared_names(plant("laco_engines.planted", "class Tolerance: ..."))["Tolerance"]


def test_each_fact_has_one_room(every):
    assert strangers(every) == []


@pytest.mark.parametrize(
    "line",
    [
        "session = onnxruntime.InferenceSession(path)",
        "options = onnxruntime.SessionOptions()",
        "text = Path('/proc/cpuinfo').read_text()",
        "text = (root / 'proc/meminfo').read_text()",
        "limit = root / 'sys/fs/cgroup/memory.max'",
        "rows = stored[f'tokens/{name}']",
        "path = folder / 'golden.npz'",
        "suffixes = ('.png', '.jpg')",
        "text = f'<|im_start|>{role}'",
        "figure.savefig(path)",
        "largest = {'int8': 127, 'int7': 63}",
    ],
)
def test_a_fact_outside_its_room_is_found(plant, line):
    assert len(strangers(plant("laco_engines.planted", line)[-1:])) == 1


def test_a_docstring_may_speak_of_a_fact(plant):
    assert strangers(plant("laco_engines.planted", '"""Reads ``/proc/cpuinfo`` by InferenceSession()."""')[-1:]) == []


def test_every_package_names_all_of_its_modules(every):
    assert left_out_of_maps(every) == []


def test_a_module_that_no_map_names_is_found(plant):
    lost = left_out_of_maps(plant("laco_engines.cost.planted", ""))
    assert "laco_engines.cost's docstring does not name planted" in lost


def test_every_test_file_has_its_module(every):
    assert orphaned_tests(ROOT / "tests", every) == []


def test_a_test_without_a_module_is_found(tmp_path, every):
    for name in ("engines/cost/test_graph_cost.py", "engines/cost/test_nothing.py", "engines/test_cost.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert orphaned_tests(tmp_path, every) == ["engines/cost/test_nothing.py"]


def test_whole_tests_lie_by_package():
    folders = {path.name for path in (ROOT / "tests" / WHOLE).iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders <= {*PACKAGES, "benchmarks", "commands", "examples"}


def test_locals_are_named_by_what_they_hold(every):
    assert [line for module in every for line in empty_words(module)] == []


@pytest.mark.parametrize(
    "line", ["found = 1", "for one in []: pass", "def f(given): ...", "x = [known for known in y]"]
)
def test_an_empty_word_is_found(plant, line):
    assert empty_words(plant("laco_engines.planted", line)[-1])
