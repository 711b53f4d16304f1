"""What a pass of the language model costs by arithmetic, for its floor.

A decoder graph has dynamic shapes; but each of its weights is multiplied with every token that is read, and the head's
with the last one alone. What is left out (attention's own products, the KV cache's traffic) makes the floor lower, so
that it stays a floor.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

from .graph_cost import INTEGER_PRODUCTS, TYPE_NAMES, GraphCost, tensor_bytes

_LOGITS = "logits"
_PASSED_THROUGH = ("Concat", "Add", "Cast", "Slice", "Squeeze", "Identity")
"""Between the head's products and the logits."""
_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", *INTEGER_PRODUCTS)


def decoder_cost(path: Path | str, tokens: int) -> GraphCost:
    """The cost of reading ``tokens`` tokens in one pass.

    Args:
        path: of the decoder's ONNX file; its weights are not read.
        tokens: 1 for a step, the prompt's length for a prefill.

    Raises:
        ModuleNotFoundError: the package ``onnx`` is not installed.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    head = _head({output: node for node in graph.node for output in node.output})
    flops: Counter[str] = Counter()
    for node in graph.node:
        if multiplied := _multiplied(node, weights):
            kind, count = multiplied
            flops[kind] += 2 * count * (1 if node.output[0] in head else tokens)
    stored = sum(tensor_bytes(tensor) for tensor in weights.values())
    return GraphCost(dict(flops), weight_bytes=stored, input_bytes=0, output_bytes=0, activation_bytes=0)


def _multiplied(node, weights: dict) -> tuple[str, int] | None:
    """The type in which a node multiplies each token, and with how many weights; None of one that multiplies none."""
    if node.op_type == "MatMulNBits":
        sides = {attribute.name: attribute.i for attribute in node.attribute}
        return "int8", sides["K"] * sides["N"]
    if node.op_type not in _PRODUCTS or node.input[1] not in weights:
        return None
    dtype, shape = weights[node.input[1]]
    return "int8" if node.op_type in INTEGER_PRODUCTS else TYPE_NAMES.get(dtype, "fp32"), prod(shape)


def _head(produced_by: dict) -> set[str]:
    """What the products give whose outputs become the logits."""
    outputs, waiting = set(), [_LOGITS]
    while waiting:
        name = waiting.pop()
        node = produced_by.get(name)
        if node is None:
            continue
        if node.op_type in _PASSED_THROUGH:
            waiting += node.input
        else:
            outputs.add(name)
    return outputs
