"""Packages that no command needs are not imported by those that commands do need."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from laco_export.console import run_command
from laco_export.unneeded_packages import without_unneeded_packages

CHECKPOINT = Path(__file__).resolve().parents[1] / "assets" / "tiny-checkpoint"
PROGRAM = """
import sys
from laco_export.cli import main
assert main(sys.argv[1:]) == 1  # a folder inside a file: seen when all is imported
assert "transformers.generation.candidate_generator" in sys.modules
imported = [name for name in ("sklearn", "scipy", "pandas", "pyarrow") if name in sys.modules]
assert not imported, imported
import scipy  # installed as before
"""


def test_an_export_does_without(tmp_path):
    (tmp_path / "file").touch()
    arguments = ["--model", str(CHECKPOINT), "--output", str(tmp_path / "file" / "bundle")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_does_without(monkeypatch):
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    found = []
    assert run_command(lambda: found.append(find_spec("scipy"))) == 0
    assert found == [None]
    assert find_spec("scipy") is not None


def test_what_was_imported_before_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", sys)
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    with without_unneeded_packages():
        assert sys.modules["sklearn"] is sys and sys.modules["scipy"] is None
    assert sys.modules["sklearn"] is sys and "scipy" not in sys.modules
