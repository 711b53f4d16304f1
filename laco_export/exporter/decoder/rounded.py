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

from ..n_bits import dequantize_blocks
from .precision import DecoderPrecision
from .realize import whole_name
from .skeleton import HEAD

_ROWS = 8192  # dequantised at a time: 29 MB of a 0.5B model's head


@contextmanager
def rounded_weights(language_model, graph: Path, precision: DecoderPrecision) -> Iterator[None]:
    """Let the model's linear layers compute with the weights stored beside ``graph`` while the block runs."""
    stored = _stored_tensors(graph)
    with ExitStack() as undo:
        for name, module in language_model.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            blocks, scales = _of_module(stored, language_model, name)
            bits, _ = precision.of_head() if name == HEAD else precision.of_blocks()
            module.forward = _forward(module, blocks, scales, bits)
            undo.callback(module.__dict__.pop, "forward")
        yield


def _forward(module: nn.Linear, blocks: np.ndarray, scales: np.ndarray, bits: int):
    def forward(hidden):
        parts = []
        for start in range(0, len(blocks), _ROWS):
            rows = slice(start, start + _ROWS)
            weight = dequantize_blocks(blocks[rows], scales[rows], bits, module.in_features)  # [rows, K]
            parts.append(functional.linear(hidden, torch.from_numpy(weight).to(hidden.dtype)))
        output = torch.cat(parts, dim=-1)
        return output if module.bias is None else output + module.bias

    return forward


def _of_module(stored: dict[str, np.ndarray], language_model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A layer's blocks ``[N, blocks, bytes]`` and scales ``[N, blocks]``, taken out of the stacked q, k and v."""
    start, whole = 0, name
    if f"{name}.blocks" not in stored:
        parent, _, kind = name.rpartition(".")
        whole = f"{parent}.qkv_proj"
        before = [f"{parent}.{other}_proj" for other in "qkv"[: "qkv".index(kind[0])]]
        start = sum(language_model.get_submodule(other).out_features for other in before)
    rows = slice(start, start + language_model.get_submodule(name).out_features)
    blocks = stored[f"{whole}.blocks"]
    return blocks[rows], stored[f"{whole}.scales"].reshape(blocks.shape[:2])[rows]


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
