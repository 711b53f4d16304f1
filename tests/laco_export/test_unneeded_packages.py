"""Packages that no command needs are not imported by those that commands do need."""

import subprocess
import sys

from laco_export.unneeded_packages import UNNEEDED, without_unneeded_packages

PROGRAM = """
import sys
from laco_export.unneeded_packages import UNNEEDED, without_unneeded_packages
with without_unneeded_packages():
    from transformers.generation import candidate_generator
    from transformers.loss import loss_for_object_detection
imported = [name for name in (*UNNEEDED, "pandas", "pyarrow") if name in sys.modules]
assert not imported, imported
import scipy  # installed as before
"""


def test_transformers_does_without():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_was_imported_before_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", sys)
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    with without_unneeded_packages():
        assert sys.modules["sklearn"] is sys and sys.modules["scipy"] is None
    assert sys.modules["sklearn"] is sys and "scipy" not in sys.modules
    assert set(UNNEEDED) == {"sklearn", "scipy"}
