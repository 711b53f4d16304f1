"""A pytest plugin: what a process that runs many tests would pay again and again, and a user's pays once.

- A full garbage collection looks at every object, and imported packages hold a million: 0.4 s, three times an export.
  They are never garbage, so that they are set aside.
- ``torch.onnx.export`` reads the sources of its 500 ONNX functions anew for each graph: a second of a tiny export's
  four. They are read once.
"""

import functools
import gc
import sys

_MANY_MODULES = 200  # imported since: a package, not the odd module
_REGISTRATION = "torch.onnx._internal.exporter._registration"

_set_aside = 0


def pytest_runtest_setup() -> None:
    set_imports_aside()
    read_onnx_functions_once()


def set_imports_aside() -> None:
    global _set_aside
    if len(sys.modules) > _set_aside + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _set_aside = len(sys.modules)


def read_onnx_functions_once() -> None:
    """Nothing here registers a function of its own, so that all exports of an opset see the same ones. A PyTorch that
    keeps them elsewhere is left as it is."""
    registry = getattr(sys.modules.get(_REGISTRATION), "ONNXRegistry", None)
    if registry is not None and not hasattr(registry.from_torchlib, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))
