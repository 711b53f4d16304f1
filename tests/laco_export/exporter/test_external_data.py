import numpy as np
import onnx

from laco_export.exporter.external_data import (
    EXTERNAL_BYTES,
    ConvertedConstant,
    WeightFile,
    graph_from_file,
    write_graph,
)
from laco_export.exporter.interpreter import GraphInterpreter


def linear(make_graph, weight, batch=1):
    nodes = [("MatMul", ["x", "w"], ["p"], {}), ("Reshape", ["p", "shape"], ["y"], {})]
    shape = np.array([batch, 2, 16])
    return make_graph(
        nodes,
        {"x": (np.float32, [batch, 32])},
        {"y": (np.float32, [batch, 2, 16])},
        {"w": weight, "shape": shape},
    )


def test_graphs_share_one_weight_file(make_graph, tmp_path):
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    with WeightFile(tmp_path / "vision.data") as weights:
        for batch in (1, 5):
            write_graph(linear(make_graph, weight, batch), tmp_path / f"b{batch}.onnx", weights, ir_version=10)
    assert (tmp_path / "vision.data").stat().st_size == weight.nbytes
    for batch in (1, 5):
        feeds = {"x": np.ones((batch, 32), np.float32)}
        result = GraphInterpreter(graph_from_file(tmp_path / f"b{batch}.onnx")).run(feeds, ["y"])["y"]
        np.testing.assert_allclose(result.reshape(batch, 32), feeds["x"] @ weight, rtol=1e-4)


def test_large_constants_leave_the_graph_and_small_ones_stay(make_graph, tmp_path):
    graph = linear(make_graph, np.ones((32, 32), np.float32))
    with WeightFile(tmp_path / "vision.data") as weights:
        write_graph(graph, tmp_path / "g.onnx", weights, ir_version=10)
    proto = onnx.load(str(tmp_path / "g.onnx"), load_external_data=False)
    external = {t.name: t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer}
    assert external == {"w": True, "shape": False}
    assert (proto.ir_version, proto.producer_name) == (10, "laco-export")
    assert (tmp_path / "g.onnx").stat().st_size < EXTERNAL_BYTES
    assert graph.tensors()["w"].values.shape == (32, 32)  # the graph itself is as it was


def test_equal_bytes_of_another_shape_are_kept_apart(tmp_path):
    with WeightFile(tmp_path / "w") as weights:
        first = weights.add("a", np.zeros((2, 8), np.float32))
        again = weights.add("b", np.zeros((2, 8), np.float32))
        other = weights.add("c", np.zeros((16,), np.float32))
    offset = lambda tensor: next(e.value for e in tensor.external_data if e.key == "offset")
    assert offset(first) == offset(again) == "0"
    assert offset(other) == "64"


def test_no_array_is_kept_once_it_is_written(tmp_path):
    """The decoder's weights are streamed: 2 GB that must not gather in memory."""
    import gc
    import weakref

    with WeightFile(tmp_path / "w") as weights:
        values = np.ones((64, 64), np.float32)
        alive = weakref.ref(values)
        weights.add("a", values)
        weights.add("again", values)
        del values
        gc.collect()
        assert alive() is None
        weights.add("b", np.zeros((64, 64), np.float32))
    assert (tmp_path / "w").stat().st_size == 2 * 64 * 64 * 4


def test_a_converted_constant_is_written_as_its_converted_values_are(make_graph, tmp_path):
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32).T  # as torch's Linear has it
    weight[0, 0] = 1e6  # beyond half: inf, without a warning
    constant = ConvertedConstant("half", weight, np.dtype(np.float16))
    graphs = [linear(make_graph, np.ones((32, 32), np.float16)) for _ in range(2)]
    for graph in graphs:
        graph.nodes[0].inputs[1] = constant.copy()
    with WeightFile(tmp_path / "later") as later, WeightFile(tmp_path / "now") as now:
        for batch, graph in enumerate(graphs):
            write_graph(graph, tmp_path / f"{batch}.onnx", later, ir_version=10)
        with np.errstate(over="ignore"):
            now.add("half", weight.astype(np.float16))
    assert (tmp_path / "later").read_bytes() == (tmp_path / "now").read_bytes()  # once for both graphs
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()
    (stored,) = onnx.load(str(tmp_path / "0.onnx"), load_external_data=False).graph.initializer[:1]
    assert (stored.data_type, list(stored.dims)) == (onnx.TensorProto.FLOAT16, [32, 32])
    assert graphs[0].tensors()["half"].source is weight  # the graph itself is as it was


def test_a_converted_constant_holds_no_values_of_its_own():
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    constant = ConvertedConstant("c", source, np.dtype(np.float16))
    assert (constant.shape, constant.dtype) == ((2, 3), np.float16)
    assert constant.values is not constant.values
    assert not constant.values.flags.writeable  # a change would be lost
    constant.values = np.ones(4, np.float16)
    assert constant.shape == constant.copy().shape == (4,)


def test_what_is_written_again_leaves_no_trace(tmp_path):
    """The graphs of a depth are written once more where half precision drifts: with other weights, behind the same."""
    shared, first, second = (np.full((64, 64), value, np.float32) for value in (1, 2, 3))
    offsets = lambda *tensors: [int(next(e.value for e in t.external_data if e.key == "offset")) for t in tensors]
    with WeightFile(tmp_path / "w") as weights:
        weights.add("shared", shared)
        begin = weights.end
        weights.add("first", first)
        weights.flush()
        assert (tmp_path / "w").stat().st_size == 2 * shared.nbytes
        weights.cut_back(begin)
        assert (tmp_path / "w").stat().st_size == begin == shared.nbytes  # where the second try is shorter too
        again = offsets(weights.add("shared", shared), weights.add("second", second), weights.add("first", first))
    assert again == [0, shared.nbytes, 2 * shared.nbytes]
    stored = np.fromfile(tmp_path / "w", np.float32).reshape(3, 64, 64)
    np.testing.assert_array_equal(stored, [shared, second, first])
