"""Edits that several rewrites make: who reads a tensor, and what a constant holds."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that writes ``tensor``; None for graph inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


def replace_readers(old: gs.Tensor, new: gs.Tensor) -> None:
    """Let every node that reads ``old`` read ``new``."""
    for reader in list(old.outputs):
        for index, tensor in enumerate(reader.inputs):
            if tensor is old:
                reader.inputs[index] = new


def replace_writer(graph: gs.Graph, old: gs.Node, new: gs.Node) -> None:
    """Let ``new`` write the one output of ``old``, which goes."""
    output = old.outputs[0]
    old.outputs.clear()
    old.inputs.clear()
    new.outputs.append(output)
    graph.nodes.append(new)


def is_output(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    return any(tensor is output for output in graph.outputs)


def only_reader(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether exactly one node reads ``tensor`` and nothing outside the graph does."""
    return len(tensor.outputs) == 1 and not is_output(graph, tensor)


def scalar(tensor: gs.Tensor) -> float | None:
    """The value of a one-element float constant; None for anything else."""
    if isinstance(tensor, gs.Constant) and math.prod(tensor.shape) == 1 and np.dtype(tensor.dtype).kind == "f":
        return float(tensor.values.reshape(()))
    return None


def add_node(
    graph: gs.Graph, op: str, name: str, inputs: list[gs.Tensor], shape: list[int], attrs: dict | None = None
) -> gs.Variable:
    """Append a node with one output of ``shape`` and of its first input's dtype; both are named ``name``."""
    output = gs.Variable(f"{name}:0", dtype=inputs[0].dtype, shape=list(shape))
    graph.nodes.append(gs.Node(op, name, attrs=attrs or {}, inputs=inputs, outputs=[output]))
    return output


def integers(name: str, values: list[int]) -> gs.Constant:
    """An int64 vector, for shapes and axes."""
    return gs.Constant(name, np.asarray(values, dtype=np.int64))
