"""Fixtures of the exporter's tests: traced graphs, and graphs written by hand."""

from types import SimpleNamespace

import numpy as np
import pytest


def pixels_for(model, seed=0):
    """Random ``pixel_values`` ``[1, 3, H, W]`` of the model's size."""
    size = model.vision_model.spec.image_size(model.config.vision_config)
    return np.random.default_rng(seed).standard_normal((1, 3, *size)).astype(np.float32)


def run_onnx(graph, feeds):
    """ONNX Runtime's outputs of a GraphSurgeon graph, by name."""
    import onnx
    import onnx_graphsurgeon as gs
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = gs.export_onnx(graph)
    model.ir_version = 10
    del model.opset_import[:]  # GraphSurgeon's are those that the graph was read with
    model.opset_import.append(onnx.helper.make_opsetid("", graph.opset))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds)))


@pytest.fixture(scope="session")
def trace(make_tiny_model):
    """``trace(kind, **model options)``: model, tower, a fresh copy of the traced graph, its merges, pixels, PyTorch's
    outputs by name; traced once per session."""
    import torch

    from laco_export.exporter.rewrites import MergeGrid
    from laco_export.exporter.tower import VisionTower
    from laco_export.exporter.tracing import graph_from_tower
    from laco_export.quiet import quiet

    traces = {}

    def get(kind="aimv2", opset=20, **options):
        key = (kind, opset, tuple(sorted(options.items())))
        if key not in traces:
            model = make_tiny_model(kind, **options)
            tower, pixels = VisionTower(model).eval(), pixels_for(model)
            with quiet():
                graph = graph_from_tower(tower, pixels.shape, opset=opset)
            with torch.inference_mode():
                outputs = [output.numpy() for output in tower(torch.from_numpy(pixels))]
            expected = dict(zip(["image_features", *tower.boundary_names], outputs))
            vision = model.vision_model
            merges = MergeGrid.of_tower(vision)
            traces[key] = SimpleNamespace(
                model=model, tower=tower, graph=graph, merges=merges, pixels=pixels, expected=expected
            )
        return SimpleNamespace(**{**vars(traces[key]), "graph": traces[key].graph.copy()})

    return get


@pytest.fixture(scope="session")
def differences():
    """``differences(traced)``: the tensors in which the graph, run by ONNX Runtime, is not what PyTorch computes.

    FP32 against FP32 differs by the order of sums alone: cosine 0.99999, norms within 1e-4 and no value off by 1e-3 of
    the largest leave a decade of room.
    """
    from laco_export.agreement import Tolerance, agreement

    def compare(traced):
        outputs = run_onnx(traced.graph, {"pixel_values": traced.pixels})
        agreements = [agreement(name, traced.expected[name], outputs[name]) for name in traced.expected]
        return [agreement.name for agreement in agreements if not agreement.within(Tolerance(0.99999, 1e-4, 1e-3))]

    return compare


@pytest.fixture(scope="session")
def run_graph():
    """``run_graph(graph, feeds)``: ONNX Runtime's outputs by name."""
    return run_onnx


@pytest.fixture(scope="session")
def make_graph():
    """``make_graph(nodes, inputs, outputs, constants, opset=20)``: a GraphSurgeon graph with inferred shapes.

    Args of the function:
        nodes: ``(op, inputs, outputs, attributes)`` by tensor names.
        inputs, outputs: name → (dtype, shape); constants: name → array.
    """
    import onnx
    import onnx_graphsurgeon as gs
    from onnx import helper

    def make(nodes, inputs, outputs, constants=None, opset=20):
        def info(name, dtype, shape):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

        graph = helper.make_graph(
            [helper.make_node(op, i, o, name=f"{op}_{n}", **attrs) for n, (op, i, o, attrs) in enumerate(nodes)],
            "graph",
            [info(name, *spec) for name, spec in inputs.items()],
            [info(name, *spec) for name, spec in outputs.items()],
            [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return gs.import_onnx(onnx.shape_inference.infer_shapes(model, strict_mode=True))

    return make
