"""Nodes that hand on what they were given: Identity, no-op Cast, Reshape, Transpose, Slice; and moves of moves.

A Reshape of a Reshape, and a Transpose of a Transpose, are one; two Transposes that undo each other are none.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome
from .rewiring import is_output, producer, replace_readers


def remove_identities(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Take such nodes out; one that joins two outputs of the graph, or an input to an output, stays."""
    fired, refused = 0, []
    for node in list(graph.nodes):
        if _shortcut_reshape(node) or _shortcut_transpose(node):
            fired += 1
        if not _hands_on(node):
            continue
        source, output = node.inputs[0], node.outputs[0]
        if not is_output(graph, output):
            replace_readers(output, source)
        elif producer(source) is None or is_output(graph, source):
            refused.append(f"{node.name}: it joins two tensors that must both keep their names")
            continue
        else:  # the producer writes the output itself
            writer = producer(source)
            node.outputs.clear()
            replace_readers(source, output)
            writer.outputs[[tensor is source for tensor in writer.outputs].index(True)] = output
        node.inputs.clear()
        node.outputs.clear()
        fired += 1
    return Outcome(fired, tuple(refused))


def _shortcut_reshape(node: gs.Node) -> bool:
    """A Reshape of a Reshape reads what the first one reads; the first goes when nothing else reads it."""
    if node.op != "Reshape":
        return False
    before = producer(node.inputs[0])
    if before is None or before.op != "Reshape" or _copies_zero(node):
        return False
    node.inputs[0] = before.inputs[0]
    return True


def _shortcut_transpose(node: gs.Node) -> bool:
    """A Transpose of a Transpose reads what the first one reads, by the two permutations in one."""
    before = producer(node.inputs[0]) if node.op == "Transpose" else None
    if before is None or before.op != "Transpose" or "perm" not in before.attrs or "perm" not in node.attrs:
        return False
    node.attrs["perm"] = [before.attrs["perm"][axis] for axis in node.attrs["perm"]]
    node.inputs[0] = before.inputs[0]
    return True


def _copies_zero(reshape: gs.Node) -> bool:
    target = reshape.inputs[1]
    return not isinstance(target, gs.Constant) or bool((target.values == 0).any())


def _hands_on(node: gs.Node) -> bool:
    if node.op == "Identity":
        return True
    if not node.inputs or not node.outputs:
        return False
    source, output = node.inputs[0], node.outputs[0]
    if node.op == "Cast":
        return (
            source.dtype is not None and output.dtype is not None and np.dtype(source.dtype) == np.dtype(output.dtype)
        )
    if node.op == "Transpose":
        perm = node.attrs.get("perm")
        return perm is not None and list(perm) == sorted(perm)
    if node.op in ("Reshape", "Slice", "Expand"):
        static = source.shape is not None and all(isinstance(size, int) for size in source.shape)
        # A Slice with a negative step keeps the shape and reverses the order.
        steps = node.inputs[4].values if node.op == "Slice" and len(node.inputs) > 4 else np.ones(1)
        return static and output.shape is not None and list(source.shape) == list(output.shape) and (steps > 0).all()
    return False
