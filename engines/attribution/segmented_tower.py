"""One bundle's vision graph in segments, each runnable alone.

ONNX Runtime's CPU provider runs them in what it makes of the graph; half graphs it computes in FP32. Where PyTorch and
the exporter's packages are installed, a half graph is run by their kernels instead, in the arithmetic that is written
into it, as a device would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import onnx

from laco_export.bundle import Bundle
from laco_export.errors import ExportError, telling_line
from laco_export.onnx_session import open_session
from laco_export.verified_files import BundleChangedError

from ..runtimes import RuntimeMissingError
from ..store.processor_form import form_for_processor, multiplies_exactly
from .graph_segments import cut_graph

_HALVES = ("fp16", "bf16")
_KERNEL_PACKAGES = ("torch", "onnx_graphsurgeon")

NamedTensors = Mapping[str, np.ndarray]


class SegmentedTower:
    """A bundle's graph for one picture, cut at ``ends``.

    Args:
        bundle: verified, of one depth.
        ends: as :func:`~.graph_segments.cut_graph` takes them.
        threads: of the CPU; default: the cores that this process may use.

    Attributes:
        judged_by: what computes, for people.
        is_half_in_fp32: a half graph whose rounding does not show, because the packages for it are missing.

    Raises:
        BundleError: the graph cannot be cut there.
        RuntimeMissingError: nothing here can run a segment.
    """

    def __init__(self, bundle: Bundle, ends: Sequence[str], *, threads: int | None = None):
        bundle, _ = form_for_processor(bundle)
        self._bundle, self._threads, self._ends = bundle, threads, tuple(ends)
        is_half = bundle.manifest.vision.precision in _HALVES
        has_kernels = all(find_spec(package) is not None for package in _KERNEL_PACKAGES)
        self.is_half_in_fp32 = is_half and not has_kernels
        self.judged_by = "half arithmetic" if is_half and has_kernels else "ONNX Runtime's CPU provider"
        graph = next(graph for graph in bundle.manifest.vision.graphs if graph.batch == 1)
        models = cut_graph(onnx.load_model_from_string(bundle.read(graph.file)), ends)
        self._inputs = [
            {value.name: _dtype_and_shape(value) for value in model.graph.input} for model in models
        ]  # by segment: name → dtype, shape
        open_segment = self._by_kernels if is_half and has_kernels else self._by_onnx_runtime
        with bundle.unchanged(bundle.manifest.vision.weights):
            self._segments = [open_segment(model, end) for model, end in zip(models, ends, strict=True)]

    @property
    def in_half_arithmetic(self) -> bool:
        return self.judged_by == "half arithmetic"

    @property
    def input_sizes(self) -> list[dict[str, int]]:
        """By segment: how many values of which tensors it reads."""
        return [{name: math.prod(shape) for name, (_, shape) in inputs.items()} for inputs in self._inputs]

    def run(self, place: int, tensors: NamedTensors) -> np.ndarray:
        """Segment number ``place``, on tensors by name that either graph computed: they are cast and shaped as this
        one's are."""
        feeds = {}
        with np.errstate(over="ignore"):  # what is too large for half is inf on a device too
            for name, (dtype, shape) in self._inputs[place].items():
                feeds[name] = np.ascontiguousarray(tensors[name]).astype(dtype, copy=False).reshape(shape)
        return self._segments[place](feeds)

    def _by_onnx_runtime(self, model: onnx.ModelProto, end: str) -> Callable[[NamedTensors], np.ndarray]:
        try:
            session = open_session(
                model.SerializeToString(),
                weights_folder=self._bundle.path,
                threads=self._threads,
                exact_products=not multiplies_exactly(self._bundle),
            )
        except BundleChangedError:
            raise
        except Exception as error:  # onnxruntime raises many kinds
            raise RuntimeMissingError(
                f"ONNX Runtime's CPU provider cannot run '{self._bundle.path}' in parts", given=telling_line(error)
            ) from error
        return lambda feeds: session.run([end], dict(feeds))[0]

    def _by_kernels(self, model: onnx.ModelProto, end: str) -> Callable[[NamedTensors], np.ndarray]:
        from laco_export.exporter.external_data import graph_from_model
        from laco_export.exporter.interpreter import GraphInterpreter

        try:
            interpreter = GraphInterpreter(graph_from_model(model, self._bundle.path))
        except ExportError as error:
            raise RuntimeMissingError(error.failed, given=error.given) from error
        return lambda feeds: interpreter.run(feeds, [end])[end]


def _dtype_and_shape(value: onnx.ValueInfoProto) -> tuple[np.dtype, tuple[int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape
