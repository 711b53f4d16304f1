import importlib.util

import pytest


@pytest.fixture
def engine_cache(tmp_path, monkeypatch):
    """An engine cache of the test's own, which is also the process's."""
    from laco_engines.store.engine_cache import EngineCache

    monkeypatch.setenv("LACO_ENGINE_CACHE", str(tmp_path / "engines"))
    return EngineCache()


@pytest.fixture
def rtx():
    """TensorRT-RTX, or the test is skipped."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs TensorRT-RTX (pip install tensorrt-rtx)")
    return "tensorrt_rtx"
