"""PyTorch with the weights that a quantised decoder stores: what its graph is compared with.

A quantised graph differs from the FP32 model for two reasons: the weights were rounded, which is meant, and the graph
may be wrong, which is not. Against the rounded weights only the second is left (and the 8 bits of its activations).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from ..n_bits import RoundedMatrix, unpack_zero_points
from .precision import DecoderPrecision, block_size_for
from .realize import whole_name
from .reduced_head import stored_token_ids
from .skeleton import HEAD

_ROWS = 8192  # dequantised at a time: 29 MB of a 0.5B model's head


@contextmanager
def rounded_weights(language_model, graph: Path, precision: DecoderPrecision, within: str = "") -> Iterator[None]:
    """Let the model's linear layers compute with the weights stored beside ``graph`` while the block runs.

    A head of a reduced vocabulary gives ``-inf`` at the tokens that it has no rows for, as the graph does.

    Args:
        within: only those of this module; ``""`` for all.
    """
    with ExitStack() as undo:
        for name, matrix in stored_matrices(language_model, graph, precision, within).items():
            module = language_model.get_submodule(name)
            module.forward = _forward(module, matrix, head_token_ids(graph) if name == HEAD else None)
            undo.callback(module.__dict__.pop, "forward")
        yield


def stored_matrices(
    language_model, graph: Path, precision: DecoderPrecision, within: str = ""
) -> dict[str, RoundedMatrix]:
    """What is stored beside ``graph`` of each linear layer, by its module's name; mapped, not read.

    Args:
        within: as in :func:`rounded_weights`.
    """
    stored = _stored_tensors(graph)
    return {
        name: _of_module(stored, language_model, name, precision)
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and (not within or name == within or name.startswith(f"{within}."))
    }


def head_token_ids(graph: Path) -> np.ndarray | None:
    """int64 ``[K]``: the tokens that the head of ``graph`` has rows for; None for all."""
    return stored_token_ids(_stored_tensors(graph))


def _forward(module: nn.Linear, matrix: RoundedMatrix, token_ids: np.ndarray | None):
    rows = slice(None) if token_ids is None else torch.from_numpy(token_ids)

    def forward(hidden):
        parts = []
        for start in range(0, len(matrix.blocks), _ROWS):
            weight = matrix.dequantized(slice(start, start + _ROWS))  # [rows, K]
            parts.append(functional.linear(hidden, torch.from_numpy(weight).to(hidden.dtype)))
        output = torch.cat(parts, dim=-1)
        if module.bias is not None:
            output = output + module.bias[rows]
        if token_ids is None:
            return output
        whole = output.new_full((*output.shape[:-1], module.out_features), -torch.inf)
        whole[..., rows] = output
        return whole

    return forward


def _of_module(stored: dict[str, np.ndarray], language_model, name: str, precision: DecoderPrecision) -> RoundedMatrix:
    """A layer's matrix, taken out of the stacked q, k and v."""
    parent, _, kind = name.rpartition(".")
    start, whole = 0, name
    if f"{name}.blocks" not in stored and kind[0] in "qkv":
        whole = f"{parent}.qkv_proj"
        before = [f"{parent}.{other}_proj" for other in "qkv"[: "qkv".index(kind[0])]]
        start = sum(language_model.get_submodule(other).out_features for other in before)
    module = language_model.get_submodule(name)
    blocks = stored[f"{whole}.blocks"]  # [N, blocks, bytes]
    rows, count, _ = blocks.shape
    size = precision.head_block_size if name == HEAD else block_size_for(module.in_features, precision.block_size)
    bits = blocks.shape[2] * 8 // size
    zeros = stored.get(f"{whole}.zero_points")
    if zeros is not None:
        zeros = unpack_zero_points(zeros.reshape(rows, -1), bits, count)
    matrix = RoundedMatrix(blocks, stored[f"{whole}.scales"].reshape(rows, count), zeros, bits, module.in_features)
    return matrix.rows(slice(start, start + module.out_features))


def _stored_tensors(graph: Path) -> dict[str, np.ndarray]:
    """The graph's external initializers by name, mapped; slices, which follow one another, as what they are of."""
    parts: dict[str, list[onnx.TensorProto]] = {}
    for tensor in onnx.load(str(graph), load_external_data=False).graph.initializer:
        if tensor.external_data:
            parts.setdefault(whole_name(tensor.name), []).append(tensor)
    tensors = {}
    for name, slices in parts.items():
        entries = {entry.key: entry.value for entry in slices[0].external_data}
        dtype = onnx.helper.tensor_dtype_to_np_dtype(slices[0].data_type)
        path, offset = graph.parent / entries["location"], int(entries["offset"])
        shape = (sum(part.dims[0] for part in slices), *slices[0].dims[1:])
        tensors[name] = np.memmap(path, dtype, "r", offset, shape)
    return tensors
