"""Chains of Reshape, Transpose and Pad that gather r×r windows of tokens: recognised by what they compute.

A chain is judged by running token indices through it, not by its spelling, so another exporter's way of writing the
same rearrangement is recognised too, and one that only looks like it is not.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .outcome import MergeGrid, MergeGrids
from .rewiring import add_node, integers, producer

_CHAIN = ("Reshape", "Transpose", "Pad")


def chain_source(tensor: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
    """The tensor that ``tensor`` is a rearrangement of, and the nodes from there to ``tensor`` in order."""
    nodes: list[gs.Node] = []
    while (node := producer(tensor)) is not None and node.op in _CHAIN:
        nodes.append(node)
        tensor = node.inputs[0]
    return tensor, nodes[::-1]


def merge_of_windows(tensor: gs.Tensor, merges: MergeGrids) -> MergeGrid | None:
    """The merge whose windows ``tensor`` holds in ``F.pixel_unshuffle``'s channel order; None where it holds none's."""
    return next((merge for merge in merges if is_channel_major(tensor, merge)), None)


def is_channel_major(tensor: gs.Tensor, merge: MergeGrid) -> bool:
    """Whether ``tensor [B, H/r, W/r, C·r²]`` holds windows in ``F.pixel_unshuffle``'s channel order."""
    source, nodes = chain_source(tensor)
    if not nodes or not _is_token_grid(source, merge):
        return False
    indices = np.arange(np.prod(source.shape)).reshape(source.shape)
    expected = _windows(indices, merge).transpose(0, 1, 3, 5, 2, 4)  # [B, H/r, W/r, C, r, r]
    actual = _run(nodes, indices)
    return actual.size == expected.size and np.array_equal(actual.ravel(), expected.ravel())


def split_windows(graph: gs.Graph, source: gs.Tensor, merge: MergeGrid, name: str) -> gs.Variable:
    """Append what views ``source [B, N, C]`` as ``[B, H/r, r, W/r, r, C]``; an odd side's last line repeats."""
    batch, channels, ratio = source.shape[0], source.shape[-1], merge.ratio
    height, width = merge.padded
    if (height, width) != (merge.height, merge.width):
        grid = [batch, merge.height, merge.width, channels]
        shape = integers(f"{name}/Grid:shape", grid)
        source = add_node(graph, "Reshape", f"{name}/Grid", [source, shape], grid)  # [B, H, W, C]
        pads = integers(f"{name}/Pad:pads", [0, 0, 0, 0, 0, height - merge.height, width - merge.width, 0])
        padded = [batch, height, width, channels]
        source = add_node(graph, "Pad", f"{name}/Pad", [source, pads], padded, {"mode": "edge"})  # [B, H', W', C]
    split = [batch, height // ratio, ratio, width // ratio, ratio, channels]
    shape = integers(f"{name}/Split:shape", split)
    return add_node(graph, "Reshape", f"{name}/Split", [source, shape], split)


def _is_token_grid(source: gs.Tensor, merge: MergeGrid) -> bool:
    shape = source.shape
    if not shape or not all(isinstance(size, int) for size in shape):
        return False
    return tuple(shape[1:-1]) in ((merge.height * merge.width,), (merge.height, merge.width))


def _windows(values: np.ndarray, merge: MergeGrid) -> np.ndarray:
    """``[B, N, C]`` or ``[B, H, W, C]`` to ``[B, H/r, r, W/r, r, C]``."""
    batch, channels = values.shape[0], values.shape[-1]
    height, width = merge.padded
    grid = values.reshape(batch, merge.height, merge.width, channels)
    grid = np.pad(grid, ((0, 0), (0, height - merge.height), (0, width - merge.width), (0, 0)), mode="edge")
    return grid.reshape(batch, height // merge.ratio, merge.ratio, width // merge.ratio, merge.ratio, channels)


def _run(nodes: list[gs.Node], values: np.ndarray) -> np.ndarray:
    """Run the chain on an array of its source's shape."""
    for node in nodes:
        if node.op == "Reshape":
            values = values.reshape(node.outputs[0].shape)
        elif node.op == "Transpose":
            values = values.transpose(node.attrs.get("perm"))
        else:
            values = _pad(node, values)
    return values


def _pad(node: gs.Node, values: np.ndarray) -> np.ndarray:
    pads = node.inputs[1].values.tolist()
    has_axes = len(node.inputs) > 3 and not node.inputs[3].is_empty()
    axes = node.inputs[3].values.tolist() if has_axes else range(values.ndim)
    widths = [(0, 0)] * values.ndim
    for position, axis in enumerate(axes):
        widths[axis] = (pads[position], pads[position + len(pads) // 2])
    mode = node.attrs.get("mode", "constant")
    if mode == "constant":
        return np.pad(values, widths, constant_values=-1)  # an index that no expected window holds
    return np.pad(values, widths, mode=mode)
