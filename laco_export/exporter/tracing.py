"""PyTorch to a GraphSurgeon graph, with PyTorch's module names in it.

``torch.onnx.export`` records in each node's metadata which module it came from; GraphSurgeon drops that metadata. So
the names are written into the ONNX nodes first: ``vision_model.encoder.encoder.layers.3.attention.q_proj/MatMul``.
Weights are handed over as arrays beside the graph: no protobuf message ever holds them, so its 2 GiB limit and a second
copy in memory are both avoided.
"""

from __future__ import annotations

import ast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch

from ..bundle import IMAGE_FEATURES, PIXEL_VALUES
from .tower import VisionTower, eager_attention

_SCOPES = "pkg.torch.onnx.name_scopes"
_STUB_BYTES = 1024  # initializers from this size on travel beside the protobuf message


def graph_from_tower(tower: VisionTower, pixel_shape: tuple[int, ...], *, opset: int) -> gs.Graph:
    """Trace ``tower`` at the static shape ``pixel_shape [B, 3, H, W]``.

    Returns:
        a graph whose outputs are ``image_features`` and then each boundary, named by its PyTorch module.
    """
    with torch.no_grad(), eager_attention(tower):
        program = torch.onnx.export(
            tower,
            (torch.zeros(pixel_shape),),
            dynamo=True,
            opset_version=opset,
            input_names=[PIXEL_VALUES],
            output_names=[IMAGE_FEATURES],
            optimize=True,
            verbose=False,
        )
    arrays = _detach_weights(program.model)
    proto = _to_proto(program.model)
    renamed = _name_nodes(proto.graph, set(arrays))
    graph = gs.import_onnx(proto)
    tensors = graph.tensors()
    for name, values in arrays.items():
        if name in tensors:
            tensors[name].values, tensors[name].data_location = values, None
    for old, new in renamed.items():
        tensors[old].name = new
    for tensor, name in zip(graph.outputs[1:], tower.boundary_names, strict=True):
        tensor.name = name
    return graph.cleanup().toposort()


def _detach_weights(model) -> dict[str, np.ndarray]:
    """Take the large initializers out of an ``onnx_ir.Model``, leaving references of the same type and shape."""
    import onnx_ir

    arrays = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor.nbytes < _STUB_BYTES:
            continue
        arrays[name] = tensor.numpy()
        value.const_value = onnx_ir.ExternalTensor(
            "weights", 0, tensor.nbytes, dtype=tensor.dtype, shape=tensor.shape, name=name
        )
    return arrays


def _to_proto(model) -> onnx.ModelProto:
    import onnx_ir

    return onnx_ir.serde.serialize_model(model)


def _name_nodes(graph: onnx.GraphProto, weights: set[str]) -> dict[str, str]:
    """Name nodes by module and operator; return new names for the weights that tracing left anonymous."""
    taken: dict[str, int] = {}
    consumers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            consumers[name] = consumers.get(name, 0) + 1
    renamed, new_names = {}, set()
    for node in graph.node:
        module = _module_of(node)
        stem = f"{module}/{node.op_type}" if module else node.op_type
        taken[stem] = taken.get(stem, 0) + 1
        node.name = stem if taken[stem] == 1 else f"{stem}_{taken[stem]}"
        for name in node.input:
            new_name = f"{module}.weight.transposed"
            if name in weights and name.startswith("val_") and consumers[name] == 1 and new_name not in new_names:
                renamed[name] = new_name
                new_names.add(new_name)
    return renamed


def _module_of(node: onnx.NodeProto) -> str:
    """The path of the innermost module that a node was traced in; empty for the outermost."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)  # ['', 'vision_model', …, the node's own name in the FX graph]
            return scopes[-2] if len(scopes) > 1 else ""
    return ""
