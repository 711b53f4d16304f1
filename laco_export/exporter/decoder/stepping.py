"""Sessions of an exported decoder for its proof: as it is shipped, and at float activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from ...errors import ExportError
from ...onnx_session import open_session
from .precision import FLOAT_ACTIVATIONS


def decoder_session(path: Path):
    """An ONNX Runtime session of the graph, on the CPU, that keeps no more between two runs than its weights.

    Raises:
        ExportError: ONNX Runtime is not installed.
    """
    try:
        return open_session(path, keep_memory=False)
    except ImportError:
        raise ExportError(
            "the decoder cannot be compared with PyTorch: ONNX Runtime is not installed",
            todo="pip install 'laco-export[cpu]'",
        ) from None


@contextmanager
def float_activations(graph: Path) -> Iterator[Path]:
    """The same graph over the same weights, whose products take activations as they are; removed afterwards."""
    model = onnx.load(str(graph), load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = FLOAT_ACTIVATIONS
    path = graph.with_name(f"{graph.stem}.float{graph.suffix}")
    path.write_bytes(model.SerializeToString())
    try:
        yield path
    finally:
        path.unlink()
