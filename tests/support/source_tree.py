"""The sources of the distribution as a test reads them: modules, what they import, and what they define."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "laco_export": "laco_export",
    "training": "laco_training",
    "engines": "laco_engines",
    "calibration": "laco_calibration",
}
"""Folder → the name that it installs under."""


@dataclass(frozen=True)
class Module:
    """A source file.

    Attributes:
        name: as it is imported, ``laco_engines.store.engine_cache``.
        path: of the file.
    """

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @cached_property
    def imports(self) -> list[str]:
        """Absolute names of what it imports, wherever in the file; ``from a import b`` gives ``a.b``."""
        names = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                parts = self.package.split(".")
                start = parts[: len(parts) - node.level + 1] if node.level else []
                base = ".".join([*start, node.module] if node.module else start)
                names += [f"{base}.{alias.name}" for alias in node.names]
        return names

    @property
    def public_names(self) -> set[str]:
        """Classes, functions and constants that it defines at its top level without an underscore."""
        names = set()
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
        return {name for name in names if not name.startswith("_")}


def module_of(path: Path, folder: Path, package: str) -> Module:
    """The module of a file in ``folder``, which installs as ``package``."""
    parts = path.relative_to(folder).with_suffix("").parts
    return Module(".".join((package, *(part for part in parts if part != "__init__"))), path)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the four packages, by path; each is read and parsed once."""
    return tuple(
        module_of(path, ROOT / folder, package)
        for folder, package in PACKAGES.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


def members(package: Module, every: Sequence[Module]) -> list[str]:
    """The names of a package's own modules and sub-packages."""
    prefix = f"{package.name}."
    return sorted(
        module.name.removeprefix(prefix)
        for module in every
        if module.name.startswith(prefix) and "." not in module.name.removeprefix(prefix)
    )
