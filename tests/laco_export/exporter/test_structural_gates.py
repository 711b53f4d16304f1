import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.operator_support import TENSORRT_10_3, TENSORRT_10_14
from laco_export.exporter.structural_gates import check_structure
from laco_export.exporter.targets import TARGETS

X = {"x": (np.float32, [2, 3])}


@pytest.fixture
def check(tmp_path):
    """Writes a graph, edited by ``change(proto)``, and checks the file."""

    def run(graph, change=None, target="trt10.3"):
        proto = gs.export_onnx(graph)
        proto.ir_version = 10
        if change:
            change(proto)
        onnx.save(proto, tmp_path / "g.onnx")
        check_structure(tmp_path / "g.onnx", TARGETS[target])

    return run


def sound(make_graph):
    return make_graph([("Sigmoid", ["x"], ["y"], {})], X, {"y": (np.float32, [2, 3])})


def test_a_sound_graph_passes(make_graph, check):
    check(sound(make_graph))


def dynamic(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def newer_opset(proto):
    proto.opset_import[0].version = 21


def newer_ir(proto):
    proto.ir_version = 11


def wrong_shape(proto):
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7


def undefined_input(proto):
    proto.graph.node[0].input[0] = "nobody"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dynamic, "dynamic"),
        (newer_opset, "opset 21"),
        (newer_ir, "IR version 11"),
        (wrong_shape, "ONNX checker"),
        (undefined_input, "ONNX checker"),
    ],
)
def test_what_a_target_cannot_read_is_refused(make_graph, check, change, says):
    with pytest.raises(ExportError, match=says):
        check(sound(make_graph), change)


def test_a_shape_node_is_refused_by_name(make_graph, check):
    graph = make_graph([("Shape", ["x"], ["y"], {})], X, {"y": (np.int64, [2])})
    with pytest.raises(ExportError, match="Shape at Shape_0"):
        check(graph)


def test_an_operator_that_tensorrt_does_not_read_is_refused_with_what_to_do(make_graph, check):
    graph = make_graph([("Bernoulli", ["x"], ["y"], {})], X, {"y": (np.float32, [2, 3])})
    with pytest.raises(ExportError, match=r"Bernoulli at Bernoulli_0, which trt10\.3 does not read") as caught:
        check(graph)
    assert "--target ort-cpu" in str(caught.value)
    assert "operator_support.py" in str(caught.value)
    check(graph, lambda proto: None, "ort-cpu")


def test_the_lists_name_operators_of_their_opsets():
    for listed, opset in ((TENSORRT_10_3, 20), (TENSORRT_10_14, 23)):
        for name in listed:
            onnx.defs.get_schema(name, opset)  # raises for a name that ONNX does not have
    assert {"Attention", "RMSNormalization"} <= TENSORRT_10_14 - TENSORRT_10_3
    assert not {"QLinearMatMul", "MatMulInteger", "DynamicQuantizeLinear"} & TENSORRT_10_14


def test_mixed_precision_in_one_node_is_refused(make_graph, check):
    graph = make_graph(
        [("Add", ["x", "c"], ["y"], {})], X, {"y": (np.float32, [2, 3])}, {"c": np.ones((2, 3), np.float32)}
    )
    graph.nodes[0].inputs[1] = gs.Constant("half", np.ones((2, 3), np.float16))
    with pytest.raises(ExportError, match="ONNX checker"):
        check(graph)
