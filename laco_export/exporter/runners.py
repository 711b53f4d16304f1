"""PyTorch and the graph interpreter as Polygraphy runners.

Polygraphy's own ``PytRunner`` asks for a CUDA device; these are the few lines that a CPU needs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.common import TensorMetadata

from ..bundle import IMAGE_FEATURES, PIXEL_VALUES
from ..onnx_session import open_session, session_options
from .external_data import graph_from_file
from .interpreter import GraphInterpreter, TensorObserver
from .tower import VisionTower

PYTORCH, ONNXRUNTIME, SHIPPED = "PyTorch", "ONNX Runtime", "ONNX Runtime, as shipped"
ARITHMETIC = {"fp32": "FP32 arithmetic", "fp16": "half arithmetic", "bf16": "bfloat16 arithmetic"}
"""The interpreter's name by the precision of what it runs."""


class _TowerRunner(BaseRunner):
    """What all share: the input's name, dtype and shape."""

    def __init__(self, name: str, pixel_shape: tuple[int, ...]):
        super().__init__(name=name)
        self._pixel_shape = pixel_shape

    def get_input_metadata_impl(self) -> TensorMetadata:
        return TensorMetadata().add(PIXEL_VALUES, dtype=np.float32, shape=self._pixel_shape)

    def infer_impl(self, feed_dict) -> OrderedDict[str, np.ndarray]:
        start = time.perf_counter()
        outputs = self._infer(feed_dict[PIXEL_VALUES])
        self.inference_time = time.perf_counter() - start
        return outputs


class TorchRunner(_TowerRunner):
    """The checkpoint's own PyTorch modules in FP32, boundaries included."""

    def __init__(self, tower: VisionTower, pixel_shape: tuple[int, ...]):
        super().__init__(PYTORCH, pixel_shape)
        self._tower = tower

    def _infer(self, pixel_values: np.ndarray) -> OrderedDict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = self._tower(torch.from_numpy(pixel_values))
        names = [IMAGE_FEATURES, *self._tower.boundary_names]
        return OrderedDict((name, tensor.numpy()) for name, tensor in zip(names, outputs))


class GraphRunner(_TowerRunner):
    """A graph in the arithmetic that is written into it, boundaries included.

    Args:
        open_graph: gives the interpreter; called when the runner is activated.
        observe: see :meth:`GraphInterpreter.run`.
        forced: per picture, in order, the values to go on with at boundaries.
    """

    def __init__(
        self,
        name: str,
        open_graph: Callable[[], GraphInterpreter],
        boundary_names: Sequence[str],
        pixel_shape: tuple[int, ...],
        *,
        observe: TensorObserver | None = None,
        forced: Sequence[Mapping[str, np.ndarray]] | None = None,
    ):
        super().__init__(name, pixel_shape)
        self._open, self._names = open_graph, [IMAGE_FEATURES, *boundary_names]
        self._observe, self.forced = observe, forced

    def activate_impl(self) -> None:
        self._interpreter, self._picture = self._open(), 0

    def _infer(self, pixel_values: np.ndarray) -> OrderedDict[str, np.ndarray]:
        if self._observe is not None:
            self._observe(PIXEL_VALUES, torch.from_numpy(pixel_values))
        forced = None if self.forced is None else self.forced[self._picture]
        self._picture += 1
        results = self._interpreter.run({PIXEL_VALUES: pixel_values}, self._names, self._observe, forced)
        return OrderedDict((name, results[name].astype(np.float32, copy=False)) for name in self._names)

    def deactivate_impl(self) -> None:
        del self._interpreter


class BatchRunner(_TowerRunner):
    """The graph of a larger batch: a picture in some slots, its mirror image in the others.

    Over the pictures every slot holds one (a single picture takes two runs); what is handed out is the slot that is
    furthest from what is expected.

    Args:
        open_features: gives pixel values ``[batch, 3, H, W]`` → features ``[batch, tokens, D]``, both float32; called
            when the runner is activated.
        expected: ``image_features`` of each picture in order, float32 ``[1, tokens, D]``.
    """

    def __init__(
        self,
        name: str,
        open_features: Callable[[], Callable[[np.ndarray], np.ndarray]],
        batch: int,
        pixel_shape: tuple[int, ...],
        expected: Sequence[np.ndarray],
    ):
        super().__init__(name, pixel_shape)
        self._open, self._batch, self._expected = open_features, batch, expected

    def activate_impl(self) -> None:
        self._features, self._picture = self._open(), 0

    def _infer(self, pixel_values: np.ndarray) -> OrderedDict[str, np.ndarray]:
        groups = min(self._batch, max(2, len(self._expected)))  # slots s, s + groups, … hold the same
        chosen = range(groups) if len(self._expected) == 1 else [self._picture % groups]
        features = np.concatenate([self._slots(pixel_values, group, groups) for group in chosen])  # [slots, tokens, D]
        apart = np.square(features - self._expected[self._picture]).sum((1, 2))
        self._picture += 1
        return OrderedDict([(IMAGE_FEATURES, features[[np.argmax(apart)]])])  # NaN is the furthest of all

    def _slots(self, pixel_values: np.ndarray, group: int, groups: int) -> np.ndarray:
        """The features of the slots of ``group``, with the picture in them."""
        batch = np.repeat(pixel_values[..., ::-1], self._batch, axis=0)  # [B, 3, H, W]
        batch[group::groups] = pixel_values
        return self._features(batch)[group::groups]

    def deactivate_impl(self) -> None:
        del self._features


def onnxruntime_features(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Pixel values to features by ONNX Runtime's CPU provider."""
    session = open_small_session(path)
    return lambda pixel_values: session.run([IMAGE_FEATURES], {PIXEL_VALUES: pixel_values})[0]


def interpreted_features(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Pixel values to features by torch's kernels, node by node in the dtypes that the file states."""
    interpreter = GraphInterpreter(graph_from_file(path))
    return lambda pixel_values: interpreter.run({PIXEL_VALUES: pixel_values}, [IMAGE_FEATURES])[IMAGE_FEATURES].astype(
        np.float32, copy=False
    )


def onnxruntime_runner(path: Path, name: str) -> OnnxrtRunner:
    """ONNX Runtime's CPU provider on a graph file."""
    return OnnxrtRunner(lambda: open_small_session(path), name=name)


def open_small_session(path: Path):
    """A session on the CPU that keeps no more memory than it needs between pictures."""
    return open_session(path, options=session_options(keep_memory=False))
