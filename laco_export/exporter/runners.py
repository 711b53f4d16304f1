"""PyTorch and the half-arithmetic interpreter as Polygraphy runners.

Polygraphy's own ``PytRunner`` asks for a CUDA device; these are the few lines that a CPU needs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.common import TensorMetadata

from .external_data import graph_from_file
from .half_arithmetic import GraphInterpreter
from .tower import INPUT, OUTPUT, VisionTower

PYTORCH, HALF, ONNXRUNTIME, SHIPPED = "PyTorch", "half arithmetic", "ONNX Runtime", "ONNX Runtime, as shipped"


class _TowerRunner(BaseRunner):
    """What both share: the input's name, dtype and shape."""

    def __init__(self, name: str, pixel_shape: tuple[int, ...]):
        super().__init__(name=name)
        self._pixel_shape = pixel_shape

    def get_input_metadata_impl(self) -> TensorMetadata:
        return TensorMetadata().add(INPUT, dtype=np.float32, shape=self._pixel_shape)


class TorchRunner(_TowerRunner):
    """The checkpoint's own PyTorch modules in FP32, boundaries included."""

    def __init__(self, tower: VisionTower, pixel_shape: tuple[int, ...]):
        super().__init__(PYTORCH, pixel_shape)
        self._tower = tower

    def infer_impl(self, feed_dict) -> OrderedDict[str, np.ndarray]:
        start = time.perf_counter()
        with torch.inference_mode():
            outputs = self._tower(torch.from_numpy(feed_dict[INPUT]))
        self.inference_time = time.perf_counter() - start
        names = [OUTPUT, *self._tower.boundary_names]
        return OrderedDict((name, tensor.numpy()) for name, tensor in zip(names, outputs))


class HalfRunner(_TowerRunner):
    """The exported file in the arithmetic that is written into it."""

    def __init__(self, path: Path, boundary_names: list[str], pixel_shape: tuple[int, ...]):
        super().__init__(HALF, pixel_shape)
        self._path, self._names = path, [OUTPUT, *boundary_names]

    def activate_impl(self) -> None:
        self._interpreter = GraphInterpreter(graph_from_file(self._path))

    def infer_impl(self, feed_dict) -> OrderedDict[str, np.ndarray]:
        start = time.perf_counter()
        results = self._interpreter.run(feed_dict, self._names)
        self.inference_time = time.perf_counter() - start
        return OrderedDict((name, results[name].astype(np.float32)) for name in self._names)

    def deactivate_impl(self) -> None:
        del self._interpreter


def onnxruntime_runner(path: Path, name: str) -> OnnxrtRunner:
    """ONNX Runtime's CPU provider on a graph file."""

    def session():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    return OnnxrtRunner(session, name=name)
