"""Fixtures of the exporter's and the models' tests, for what is tested as a whole."""

import importlib.util
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "laco_export"


def conftest_of(folder):
    """The module of another folder's ``conftest.py``: its fixtures are seen here once they have a name here."""
    spec = importlib.util.spec_from_file_location(f"fixtures_of_{folder}", TESTS / folder / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_exporter = conftest_of("exporter")
trace, differences = _exporter.trace, _exporter.differences
_models = conftest_of("models")
make_encoder, make_model, prompt = _models.make_encoder, _models.make_model, _models.prompt
