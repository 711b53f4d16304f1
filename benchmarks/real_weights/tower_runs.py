"""Features and block boundaries of a graph file, on ONNX Runtime's CPU provider or in half arithmetic."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from laco_export.bundle import IMAGE_FEATURES, PIXEL_VALUES
from laco_export.exporter.external_data import graph_from_file
from laco_export.exporter.interpreter import GraphInterpreter
from laco_export.onnx_session import open_session

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""``run(pixel_values [1, 3, H, W])``: tensor name → its values in float32."""


@contextmanager
def opened(graph_file: Path, names: Sequence[str] = (), *, half: bool) -> Iterator[Run]:
    """Run a graph file as it is, or with the tensors ``names`` as outputs too.

    Args:
        half: node by node in the dtypes that the file states, which ONNX Runtime's CPU provider does not do for FP16.
    """
    wanted = [IMAGE_FEATURES, *names]
    if half:
        interpreter = GraphInterpreter(graph_from_file(graph_file))
        dtype = _input_dtype(graph_file)
        as_float32 = lambda values: {name: np.asarray(values[name], np.float32) for name in wanted}
        yield lambda pixels: as_float32(interpreter.run({PIXEL_VALUES: pixels.astype(dtype)}, wanted))
        return
    if not names:
        session = open_session(graph_file)
        yield lambda pixels: dict(zip(wanted, session.run(wanted, {PIXEL_VALUES: pixels})))
        return
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(_marked(graph_file, names, Path(folder)))
        yield lambda pixels: dict(zip(wanted, session.run(wanted, {PIXEL_VALUES: pixels})))


def features_of(graph_file: Path, pictures: Iterable[np.ndarray], *, half: bool = False) -> list[np.ndarray]:
    """``image_features [1, T, D]`` of each picture."""
    with opened(graph_file, half=half) as run:
        return [run(pixels)[IMAGE_FEATURES] for pixels in pictures]


def boundaries_of(graph_file: Path) -> list[str]:
    """The tensors at the ends of the embeddings, of each block and of the merge, in the graph's order.

    A boundary has its PyTorch module's name, and ``vision_model.`` begins it.
    """
    graph = onnx.load(graph_file, load_external_data=False).graph
    names = (name for node in graph.node for name in node.output if name.startswith("vision_model."))
    return [name for name in names if "/" not in name]  # a rewrite's own tensors are named after a node


def _input_dtype(graph_file: Path) -> np.dtype:
    (pixels,) = onnx.load(graph_file, load_external_data=False).graph.input
    return onnx.helper.tensor_dtype_to_np_dtype(pixels.type.tensor_type.elem_type)


def _marked(graph_file: Path, names: Sequence[str], folder: Path) -> Path:
    """A copy of the graph whose outputs have ``names`` among them."""
    model = onnx.load(graph_file)
    graph = gs.import_onnx(model)
    tensors = graph.tensors()
    graph.outputs += [tensors[name] for name in names]
    marked = gs.export_onnx(graph)
    marked.ir_version = model.ir_version
    onnx.save(marked, folder / "marked.onnx")
    return folder / "marked.onnx"
