"""Every benchmark can be imported and says how it is used, without doing any of its work."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
MODULES = sorted(
    ".".join(path.relative_to(BENCHMARKS).with_suffix("").parts)
    for path in BENCHMARKS.rglob("*.py")
    if path.name != "__init__.py"
)


OUTDATED = {"calibration_cpu": "imports laco_engines.timing.interleaved, which has become interleave"}
"""Scripts that cannot be imported now; the mark fails, and goes, when they can again."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=OUTDATED[name], strict=True)) if name in OUTDATED else name
        for name in MODULES
    ],
)
def test_a_script_says_how_it_is_used(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = results()
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "main"):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert not ended.value.code
        assert f"usage: {name}.py" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert results() == before


def results():
    return {path.name: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").iterdir()}
