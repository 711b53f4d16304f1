"""Graphs at other batch sizes, without another trace."""

import numpy as np
import onnx
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.batching import at_batch
from laco_export.exporter.rewrites import apply_forms, apply_rewrites

KINDS = {"aimv2": (4, 4), "siglip": (5, 5), "internvit": (4, 4), "clip": (4, 4)}
METHODS = ("laco", "laco_misaligned", "pixel_shuffle", "ldpv2", "token_packer", "average_pool", None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_picture_of_a_batch_is_encoded_as_alone(trace, run_graph, kind, method):
    traced = trace(kind, grid=KINDS[kind], method=method)
    apply_rewrites(traced.graph, traced.merges)
    traced.graph.outputs = traced.graph.outputs[:1]
    pictures = np.random.default_rng(1).standard_normal((3, *traced.pixels.shape[1:])).astype(np.float32)
    pictures[1] = traced.pixels[0]
    for target, opset in (("trt10.3", 20), ("ort-cpu", 23)):
        graph = traced.graph.copy()
        graph.opset = opset
        apply_forms(graph, traced.merges, target)
        alone = [run_graph(graph, {"pixel_values": picture[None]})["image_features"][0] for picture in pictures]
        together = run_graph(at_batch(graph, 3), {"pixel_values": pictures})["image_features"]
        largest = np.abs(traced.expected["image_features"]).max()
        np.testing.assert_allclose(together, np.stack(alone), atol=1e-4 * largest)
        np.testing.assert_allclose(alone[1], traced.expected["image_features"][0], atol=1e-3 * largest)


@pytest.mark.parametrize("depth", ["1/4", "1/2", "1"])
def test_at_every_depth_and_with_full_shape_inference(trace, depth, tmp_path):
    import onnx_graphsurgeon as gs

    traced = trace("internvit", blocks=4, at=depth)
    apply_rewrites(traced.graph, traced.merges)
    model = gs.export_onnx(at_batch(traced.graph, 5))
    model.ir_version = 10
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inferred.graph.output}
    assert all(shape[0] == 5 for shape in shapes.values())
    assert shapes["image_features"] == [5, 4, 48]


def test_the_weights_are_shared_and_the_first_graph_stays(trace):
    traced = trace()
    copy = at_batch(traced.graph, 5)
    weights = lambda graph: {t.name: t.values for t in graph.tensors().values() if hasattr(t, "_values")}
    first, second = weights(traced.graph), weights(copy)
    shared = [name for name in first if first[name].nbytes > 4096]
    assert shared
    assert all(second[name] is first[name] for name in shared)
    assert traced.graph.inputs[0].shape[0] == 1
    assert copy.inputs[0].shape[0] == 5


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "says"),
    [
        ("Transpose", {"perm": [1, 0]}, {}, "moves the batch"),
        ("Softmax", {"axis": 0}, {}, "works along the batch"),
        ("ReduceMean", {"keepdims": 1}, {"axes": np.array([0])}, "works along the batch"),
        ("Add", {}, {"c": np.ones((3, 3), np.float32)}, "constant of shape [3, 3]"),
        ("CumSum", {}, {"axis": np.array(1)}, "is not known to keep pictures apart"),
    ],
)
def test_refuses_what_mixes_pictures(make_graph, op, attributes, constants, says):
    rows = 1 if op == "ReduceMean" else 3
    graph = make_graph(
        [(op, ["x", *constants], ["y"], attributes)],
        {"x": (np.float32, [3, 3])},
        {"y": (np.float32, [rows, 3])},
        constants,
    )
    with pytest.raises(ExportError) as caught:
        at_batch(graph, 2)
    assert says in str(caught.value)
    assert "--batch 1" in str(caught.value)
