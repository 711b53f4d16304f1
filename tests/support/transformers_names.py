"""What the distribution asks of transformers, and which of it two versions have. Run where a new name is used::

    python tests/support/transformers_names.py PYTHON_WITH_4.57 PYTHON_WITH_5

It writes ``tests/assets/transformers-names.txt``: each name that both interpreters resolve.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from source_tree import ROOT, Module, modules

LIST = ROOT / "tests" / "assets" / "transformers-names.txt"


def names_asked_for(module: Module) -> set[str]:
    """``transformers.modeling_outputs.CausalLMOutputWithPast``: what it imports of transformers, and what it takes of
    ``transformers`` itself."""
    names = {name for name in module.imports if name.split(".")[0] == "transformers"}
    names |= {
        f"transformers.{node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "transformers"
    }
    return names


def words_of(module: Module) -> set[str]:
    """Attributes, keyword arguments, parameters and methods by name."""
    words = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, (ast.keyword, ast.arg)):
            words.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            words.add(node.name)
    return words


def is_there(name: str) -> bool:
    """Whether the installed transformers has it."""
    where, _, last = name.rpartition(".")
    try:
        if not where or hasattr(importlib.import_module(where), last):
            importlib.import_module(where or name)
            return True
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def main(pythons: Iterable[str]) -> None:
    asked = sorted(set().union(*(names_asked_for(module) for module in modules())))
    program = "import sys, transformers_names as t; print(*filter(t.is_there, sys.argv[1:]), sep='\\n')"
    here = Path(__file__).parent
    found = [
        set(subprocess.run([python, "-c", program, *asked], cwd=here, check=True, stdout=-1, text=True).stdout.split())
        for python in pythons
    ]
    LIST.write_text("\n".join(sorted(set.intersection(*found))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
