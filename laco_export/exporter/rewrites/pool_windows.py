"""r×r pooling of the token grid as one mean over its windows, without a trip to channels-first.

::

    [B, H, W, C] ─Transpose─▶ [B, C, H, W] ─AveragePool r×r─▶ [B, C, H/r, W/r]          LDPv2
                                            ─Resize, linear─▶                            TokenPacker
    [B, H, W, C] ─Reshape─▶ [B, H/r, r, W/r, r, C] ─ReduceMean 2 4─▶ [B, H/r, W/r, C] ─Transpose─▶ [B, C, H/r, W/r]

The last Transpose moves r² times fewer values, and goes where the next node undoes it. Linear resizing to a whole
fraction takes the point in the middle of each r×r window: of an odd r the token that lies there, of an even one the
mean of the four around it. What of a window is not in the middle is sliced off before the mean::

    r = 2: all of it      r = 3: · · ·      r = 4: · · · ·
                                 · x ·             · x x ·
                                 · · ·             · x x ·
                                                   · · · ·
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome
from .rewiring import add_node, integers, producer, replace_writer

_CHANNELS_FIRST = [0, 3, 1, 2]


def pool_windows(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Average over windows wherever a channels-first token grid is pooled, or resized to its half."""
    fired, refused = 0, []
    for pool in [node for node in graph.nodes if node.op in ("AveragePool", "Resize")]:
        if reason := _is_no_window_mean(pool):
            refused.append(f"{pool.name}: {reason}")
            continue
        _rewrite(graph, pool)
        fired += 1
    return Outcome(fired, tuple(refused))


def _is_no_window_mean(pool: gs.Node) -> str | None:
    transpose = producer(pool.inputs[0])
    if transpose is None or transpose.op != "Transpose" or list(transpose.attrs["perm"]) != _CHANNELS_FIRST:
        return "it does not read a token grid [B, H, W, C] with its channels moved in front"
    (height, width), (rows, columns) = pool.inputs[0].shape[2:], pool.outputs[0].shape[2:]
    if height % rows or width % columns or height // rows != width // columns:
        return f"it does not take {height} x {width} to whole windows"
    ratio, attributes = height // rows, pool.attrs
    if pool.op == "Resize":
        linear = (attributes.get("mode"), attributes.get("coordinate_transformation_mode", "half_pixel"))
        if ratio < 2 or linear != ("linear", "half_pixel") or attributes.get("antialias", 0):
            return "only linear resizing to a whole fraction, between pixel centres, is a mean of windows"
        return None
    kernel = (attributes.get("kernel_shape"), attributes.get("strides"), attributes.get("dilations", [1, 1]))
    if kernel != ([ratio, ratio], [ratio, ratio], [1, 1]) or any(attributes.get("pads", [0])):
        return "its windows overlap or are padded"
    return None


def _rewrite(graph: gs.Graph, pool: gs.Node) -> None:
    grid, name = producer(pool.inputs[0]).inputs[0], pool.name.rpartition("/")[0] or pool.name
    batch, height, _, channels = grid.shape
    rows, columns = pool.outputs[0].shape[2:]
    ratio = height // rows
    shape = [batch, rows, ratio, columns, ratio, channels]
    split = add_node(graph, "Reshape", f"{name}/Split", [grid, integers(f"{name}/Split:shape", shape)], shape)
    pooled = _middle(graph, split, name) if pool.op == "Resize" else split
    axes = integers(f"{name}/WindowMean:axes", [2, 4])
    mean = add_node(
        graph, "ReduceMean", f"{name}/WindowMean", [pooled, axes], [batch, rows, columns, channels], {"keepdims": 0}
    )
    back = gs.Node("Transpose", f"{name}/ChannelsFirst", {"perm": _CHANNELS_FIRST}, [mean])
    replace_writer(graph, pool, back)


def _middle(graph: gs.Graph, split: gs.Variable, name: str) -> gs.Variable:
    """``[B, H/r, r, W/r, r, C]`` -> ``[B, H/r, m, W/r, m, C]``: the middle m×m of each window, m = 1 of an odd r, 2 of
    an even one."""
    batch, rows, ratio, columns, _, channels = split.shape
    first, last = (ratio - 1) // 2, ratio // 2
    if last - first + 1 == ratio:
        return split
    bounds = {"starts": [first, first], "ends": [last + 1, last + 1], "axes": [2, 4]}
    inputs = [integers(f"{name}/Middle:{role}", values) for role, values in bounds.items()]
    size = last - first + 1
    return add_node(graph, "Slice", f"{name}/Middle", [split, *inputs], [batch, rows, size, columns, size, channels])
