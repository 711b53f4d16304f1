"""One pass of an exported decoder in ONNX Runtime, over a prompt or a step: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from ...errors import ExportError
from ...onnx_session import open_session
from .precision import FLOAT_ACTIVATIONS


def decoder_session(path: Path):
    """An ONNX Runtime session of the graph, on the CPU.

    Raises:
        ExportError: ONNX Runtime is not installed.
    """
    try:
        return open_session(path)
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


def run_decoder(
    session, embeds: np.ndarray, cache: dict | None, wanted: np.ndarray | None = None
) -> tuple[np.ndarray, dict]:
    """Embeddings ``[1, T, D]`` to logits ``[N, V]`` and the KV cache by input name.

    Args:
        cache: of the positions before; None for none.
        wanted: the positions of this pass whose logits are asked for, ``[N]``; None for all.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    dtype = np.float16 if inputs["inputs_embeds"].type == "tensor(float16)" else np.float32
    if cache is None:
        cache = {
            name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype)
            for name, value in inputs.items()
            if name.startswith("past_key_values")
        }
    length = embeds.shape[1]
    total = next(iter(cache.values())).shape[2] + length
    positions = np.arange(length) if wanted is None else wanted
    feed = {
        "inputs_embeds": embeds.astype(dtype),
        "seqlens_k": np.array([total - 1], np.int32),
        "total_sequence_length": np.array(total, np.int32),
        "logit_positions": positions.astype(np.int64)[None, :, None],
    }
    outputs = session.run(None, feed | cache)
    named = dict(zip([output.name for output in session.get_outputs()], outputs))
    logits = named.pop("logits")[0]
    return logits, {name.replace("present", "past_key_values"): value for name, value in named.items()}
