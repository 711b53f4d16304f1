"""ONNX Runtime's telemetry is off whichever of the packages is imported first, unless the user decided."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from source_tree import PACKAGES

from laco_export.telemetry import VARIABLE, turn_off_telemetry

TELL = f"; import os, sys; print(os.environ.get('{VARIABLE}'), 'onnxruntime' in sys.modules)"


def after_import(package: str, **environment: str) -> list[str]:
    """The variable in a process that has imported ``package``, and whether ONNX Runtime was imported with it."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}{TELL}"], env=inherited | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("package", PACKAGES.values())
def test_importing_a_package_turns_it_off_and_does_not_import_onnx_runtime(package):
    assert after_import(package) == ["1", "False"]


def test_what_the_user_has_set_stays():
    assert after_import("laco_export", **{VARIABLE: "0"}) == ["0", "False"]


def test_where_it_is_imported_already_no_further_events_are_sent(monkeypatch):
    calls = []
    stand_in = SimpleNamespace(disable_telemetry_events=lambda: calls.append("off"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    turn_off_telemetry()
    assert (os.environ[VARIABLE], calls) == ("1", ["off"])
    monkeypatch.setenv(VARIABLE, "0")
    turn_off_telemetry()
    assert calls == ["off"], "the user has decided"
