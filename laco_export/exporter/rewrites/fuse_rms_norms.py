"""RMSNorm as one opset-23 node, for targets that read it (TensorRT from 10.14)."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .norm_pattern import find_rms_norm
from .outcome import MergeGrids, Outcome
from .rewiring import replace_writer


def fuse_rms_norms(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Replace every norm of the form in :mod:`.norm_pattern` by an RMSNormalization node.

    In a half-precision graph the statistics are FP32: so is the node, and its result is rounded once, after the weight.
    """
    fired, refused = 0, []
    for root in [node for node in graph.nodes if node.op == "Sqrt"]:
        norm = find_rms_norm(graph, root)
        if isinstance(norm, str):
            refused.append(f"{root.name}: {norm}")
            continue
        name = f"{norm.weigh.name.rpartition('/')[0] or norm.weigh.name}/RMSNormalization"
        weight = norm.weight
        if weight.values.dtype != norm.x.dtype:
            weight = gs.Constant(f"{name}:weight", weight.values.astype(norm.x.dtype))
        node = gs.Node("RMSNormalization", name, {"axis": -1, "epsilon": norm.epsilon}, [norm.x, weight])
        if norm.rounded is None:
            replace_writer(graph, norm.weigh, node)
        else:
            wide = gs.Variable(f"{name}:0", dtype=np.dtype(norm.x.dtype), shape=norm.x.shape)
            node.outputs.append(wide)
            graph.nodes.append(node)
            cast = gs.Node("Cast", f"{name}/Cast", dict(norm.rounded.attrs), [wide])
            replace_writer(graph, norm.weigh, cast)
        fired += 1
    return Outcome(fired, tuple(refused))
