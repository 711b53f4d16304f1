"""The same graph at another batch size, without tracing again and without a second copy of the weights.

A trace at batch 1 is static: the 1 stands in the shapes of Reshapes and in the folded constants that are joined to a
picture's tokens (the CLS token). Every tensor that depends on the input has the batch as its outermost axis (or as part
of it, where windows are folded in), so that its first dimension grows by the factor, and so does that of each Reshape's
target. An operator that works along that axis has no such form and is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from ..errors import ExportError


def at_batch(graph: gs.Graph, batch: int) -> gs.Graph:
    """A copy of ``graph``, which was traced at batch 1, at ``batch``; large constants are shared with it.

    Raises:
        ExportError: an operator mixes the pictures of a batch, or is not known not to.
    """
    copy = graph.copy().toposort()
    grown: set[str] = set()
    for tensor in copy.inputs:
        _grow(tensor, batch, grown)
    for node in copy.nodes:
        reads = [tensor for tensor in node.inputs if tensor.name in grown]
        if not reads:
            continue
        if batch > 1 and (reason := _mixes_pictures(node)):
            raise ExportError(
                f"the vision graph cannot be exported at batch {batch}: {node.name} ({node.op}) {reason}",
                todo="export with --batch 1, and report this with the checkpoint's config.json",
            )
        if node.op in _SHAPE_INPUT:
            node.inputs[_SHAPE_INPUT[node.op]] = _target_shape(node, batch)
        elif node.op == "Concat":
            node.inputs = [_repeated(t, batch) if isinstance(t, gs.Constant) else t for t in node.inputs]
        for tensor in node.outputs:
            _grow(tensor, batch, grown)
    return copy


def _grow(tensor: gs.Tensor, batch: int, grown: set[str]) -> None:
    tensor.shape = [tensor.shape[0] * batch, *tensor.shape[1:]]
    grown.add(tensor.name)


def _target_shape(node: gs.Node, batch: int) -> gs.Constant:
    shape = list(node.outputs[0].shape)  # as traced; free of -1 and 0
    return gs.Constant(f"{node.name}:shape_b{batch}", np.array([shape[0] * batch, *shape[1:]], np.int64))


def _repeated(constant: gs.Constant, batch: int) -> gs.Constant:
    values = constant.values
    return gs.Constant(f"{constant.name}:b{batch}", np.repeat(values, batch, axis=0))


def _along(axis: int, node: gs.Node) -> bool:
    return axis % len(node.inputs[0].shape) == 0


def _axes(node: gs.Node, index: int) -> list[int]:
    return node.inputs[index].values.tolist() if len(node.inputs) > index and not node.inputs[index].is_empty() else []


def _moves(node: gs.Node) -> str | None:
    return None if node.attrs["perm"][0] == 0 else "moves the batch from its place"


def _works_along(axis: int) -> Callable[[gs.Node], str | None]:
    """For an operator with an ``axis`` attribute, whose default is ``axis``."""
    return lambda node: "works along the batch" if _along(node.attrs.get("axis", axis), node) else None


def _over_axes(index: int) -> Callable[[gs.Node], str | None]:
    """For an operator whose axes are its input ``index``: all of them where they are not given."""

    def check(node: gs.Node) -> str | None:
        axes = _axes(node, index)
        return None if axes and not any(_along(axis, node) for axis in axes) else "works along the batch"

    return check


def _pads_batch(node: gs.Node) -> str | None:
    pads, axes = _axes(node, 1), _axes(node, 3)
    padded = axes or list(range(len(pads) // 2))
    widths = {axis % len(node.inputs[0].shape): pads[i] + pads[i + len(pads) // 2] for i, axis in enumerate(padded)}
    return "pads the batch" if widths.get(0) else None


def _per_picture(node: gs.Node) -> None:
    return None


def _broadcasts(node: gs.Node) -> str | None:
    """Element-wise: a constant of the outputs' full rank must have a batch of one."""
    rank = len(node.outputs[0].shape)
    wide = [t for t in node.inputs if isinstance(t, gs.Constant) and len(t.shape) == rank and t.shape[0] != 1]
    return f"reads a constant of shape {list(wide[0].shape)}" if wide and rank else None


_SHAPE_INPUT = {"Reshape": 1, "Resize": 3}
"""Which input states the output's shape."""

_ELEMENTWISE = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "Neg",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Gelu",
)
_CHECKS: dict[str, Callable[[gs.Node], str | None]] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcasts),
    **dict.fromkeys(("Cast", "Conv", "Reshape", "AveragePool", "Resize", "Attention"), _per_picture),
    "MatMul": _broadcasts,
    "Transpose": _moves,
    "Concat": _works_along(0),
    "Gather": _works_along(0),
    "Split": _works_along(0),
    "Softmax": _works_along(-1),
    "LayerNormalization": _works_along(-1),
    "RMSNormalization": _works_along(-1),
    "ReduceMean": _over_axes(1),
    "ReduceSum": _over_axes(1),
    "Squeeze": _over_axes(1),
    "Slice": _over_axes(3),
    "Pad": _pads_batch,
}
"""By operator, why a node mixes the pictures of a batch, or None."""


def _mixes_pictures(node: gs.Node) -> str | None:
    return _CHECKS.get(node.op, lambda node: "is not known to keep pictures apart")(node)
