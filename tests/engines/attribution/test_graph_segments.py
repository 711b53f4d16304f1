import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from laco_engines.attribution.graph_segments import cut_graph
from laco_export.errors import BundleError
from laco_export.onnx_session import open_session

PIXELS = np.arange(6, dtype=np.float32).reshape(2, 3)


def chain(*extra):
    """pixels → Mul → first → Add → second → Relu → features; ``extra`` are further nodes."""
    nodes = [
        helper.make_node("Mul", ["pixel_values", "two"], ["first"]),
        helper.make_node("Add", ["first", "two"], ["second"]),
        *extra,
        helper.make_node("Relu", ["third" if extra else "second"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_segments_one_after_another_are_the_graph():
    ends = ["first", "second", "features"]
    segments = cut_graph(chain(), ends)
    assert [[value.name for value in segment.graph.input] for segment in segments] == [
        ["pixel_values"], ["first"], ["second"],
    ]  # fmt: skip
    tensors = {"pixel_values": PIXELS}
    for end, segment in zip(ends, segments, strict=True):
        onnx.checker.check_model(segment)
        (name,) = (value.name for value in segment.graph.input)
        (tensors[end],) = open_session(segment.SerializeToString(), threads=1).run(None, {name: tensors[name]})
    assert np.array_equal(tensors["features"], 2 * PIXELS + 2)


def test_a_segment_may_read_an_earlier_boundary_too():
    around = helper.make_node("Add", ["second", "first"], ["third"])
    last = cut_graph(chain(around), ["first", "second", "features"])[-1]
    assert [value.name for value in last.graph.input] == ["first", "second"]
    assert [node.op_type for node in last.graph.node] == ["Add", "Relu"]
    assert not last.graph.initializer, "weights of other segments are left out"


def test_a_graph_that_goes_around_all_boundaries_is_refused():
    around = helper.make_node("Add", ["second", "pixel_values"], ["third"])
    with pytest.raises(BundleError, match="cannot be cut") as error:
        cut_graph(chain(around), ["first", "second", "features"])
    assert "'features' reads the pixels" in error.value.given


def test_a_boundary_that_is_not_there_is_named():
    with pytest.raises(BundleError, match="does not have these boundaries") as error:
        cut_graph(chain(), ["first", "nowhere", "features"])
    assert error.value.given == "nowhere"
