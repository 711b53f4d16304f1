"""RMSNorm as a trace writes it, recognised from its Sqrt.

::

    x ─Pow 2─▶ ReduceMean ─▶ Add ε ─▶ Sqrt ─▶ Reciprocal ─▶ Mul x ─▶ [Cast] ─▶ Mul weight
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from .rewiring import only_reader, producer, scalar


@dataclass(frozen=True)
class RmsNorm:
    """One norm over the last axis.

    Attributes:
        scaled: the Mul that writes ``x / rms``; ``root`` the Sqrt.
        rounded: in a half-precision graph, the Cast of ``x / rms`` to half before the weight.
        weigh: the Mul that writes the output, ``weight`` its constant vector ``[C]``.
    """

    x: gs.Tensor
    epsilon: float
    root: gs.Node
    scaled: gs.Node
    rounded: gs.Node | None
    weigh: gs.Node
    weight: gs.Constant


def find_rms_norm(graph: gs.Graph, root: gs.Node) -> RmsNorm | str:
    """The norm that the Sqrt ``root`` belongs to, or why there is none of the documented form."""
    add = producer(root.inputs[0])
    mean = None if add is None or add.op != "Add" else producer(add.inputs[0])
    square = None if mean is None or mean.op != "ReduceMean" else producer(mean.inputs[0])
    if square is None or square.op != "Pow" or scalar(square.inputs[1]) != 2.0 or scalar(add.inputs[1]) is None:
        return "no mean of squares and a constant under the root"
    x = square.inputs[0]
    axes = mean.inputs[1].values.tolist() if len(mean.inputs) > 1 and isinstance(mean.inputs[1], gs.Constant) else None
    if axes not in ([-1], [len(x.shape) - 1]) or not mean.attrs.get("keepdims", 1):
        return "its mean is not over the last axis"
    scaled = _only(graph, root, "Reciprocal")
    scaled = _only(graph, scaled, "Mul") if scaled is not None else None
    if scaled is None or not any(tensor is x for tensor in scaled.inputs):
        return "its root is not what x alone is multiplied by"
    rounded = _only(graph, scaled, "Cast")
    weigh = _only(graph, rounded or scaled, "Mul")
    weights = [] if weigh is None else [tensor for tensor in weigh.inputs if isinstance(tensor, gs.Constant)]
    if len(weights) != 1 or weights[0].values.shape != (x.shape[-1],):
        return "its result is not multiplied by one constant vector"
    return RmsNorm(x, scalar(add.inputs[1]), root, scaled, rounded, weigh, weights[0])


def _only(graph: gs.Graph, node: gs.Node, op: str) -> gs.Node | None:
    """The one reader of the node's output, if it is an ``op``."""
    output = node.outputs[0]
    return output.outputs[0] if only_reader(graph, output) and output.outputs[0].op == op else None
