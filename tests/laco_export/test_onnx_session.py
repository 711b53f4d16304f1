"""Sessions: their options, and that integer products are exact in them.

On a processor with VNNI the tests show that the remedy for one without does no harm; on one without, that it helps.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from laco_export import onnx_session
from laco_export.machine import default_threads
from laco_export.onnx_session import EXACT_PRODUCTS, open_session, session_options

ROWS, INPUTS, OUTPUTS = 5, 200, 67  # no multiples of what a kernel takes at once


@pytest.fixture(params=["as this processor is", "as one that saturates"])
def processor(request, monkeypatch):
    """Also what a session does where sums are cut off; with VNNI it must compute the same."""
    if request.param == "as one that saturates":
        monkeypatch.setattr(onnx_session, "products_saturate", lambda: True)


@pytest.fixture(scope="module")
def numbers():
    """uint8 ``[1, ROWS, INPUTS]`` and int8 ``[INPUTS, OUTPUTS]``, mostly of the ends of their ranges."""
    random = np.random.default_rng(0)
    left = random.choice(np.array([0, 1, 128, 254, 255], np.uint8), (1, ROWS, INPUTS))
    return left, random.choice(np.array([-128, -127, -100, 3, 127], np.int8), (INPUTS, OUTPUTS))


def saturating_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right`` as vpmaddubsw adds it: two products in 16 bits, which hold no more than they can."""
    products = left.astype(np.int32)[..., None] * right  # [1, ROWS, INPUTS, OUTPUTS]
    pairs = products[..., 0::2, :] + products[..., 1::2, :]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(-2)


def model_of(nodes, constants, *, dtype, shape, opset=19) -> bytes:
    """A model from ``x`` to float ``y``."""
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.mark.parametrize("rows", [1, ROWS])  # one row has a kernel of its own
@pytest.mark.parametrize("bias", [False, True])
def test_an_integer_product_is_exact(rows, bias, numbers, processor):
    """In the form of target ``ort-cpu``. Where a pair of products is cut off, it is wrong by a good half."""
    left, right = numbers[0][:, :rows], numbers[1]
    constants = {
        "w": right,
        "scale": np.float32(0.5),
        "w_scale": np.ones(OUTPUTS, np.float32),
        "zero": np.uint8(117),
        "w_zero": np.int8(0),
    } | ({"bias": np.ones(OUTPUTS, np.float32)} if bias else {})
    inputs = ["x", "w", "scale", "w_scale", "zero", "w_zero", *(["bias"] if bias else [])]
    node = helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft")
    session = open_session(model_of([node], constants, dtype=TensorProto.UINT8, shape=left.shape))

    (product,) = session.run(None, {"x": left})

    whole = left.astype(np.int64) @ right - 117 * right.sum(0, dtype=np.int64)
    cut_off = saturating_product(left, right) - 117 * right.sum(0, dtype=np.int64)
    assert np.array_equal(product, (0.5 * whole + bias).astype(np.float32)), "sums below 2^24 are whole in float32"
    assert np.linalg.norm(cut_off - whole) > 0.5 * np.linalg.norm(whole), "these numbers do not show it"


def q_dq_nodes(inputs_too: bool):
    """A Linear layer in the form of TensorRT."""
    nodes = [helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["dw"], axis=1)]
    if inputs_too:
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dx"]),
        ]
    return [*nodes, helper.make_node("MatMul", ["dx" if inputs_too else "x", "dw"], ["y"])]


@pytest.mark.parametrize("inputs_too", [False, True])
def test_pairs_for_tensorrt_compute_what_they_say(inputs_too, numbers, processor):
    right, random = numbers[1], np.random.default_rng(1)
    left = random.choice(np.array([-128, -127, -100, 3, 127], np.int8), (1, ROWS, INPUTS))
    constants = {"w": right, "w_scale": np.full(OUTPUTS, 0.25, np.float32), "w_zero": np.zeros(OUTPUTS, np.int8)}
    if inputs_too:
        constants |= {"scale": np.float32(0.5), "zero": np.int8(0)}
    model = model_of(q_dq_nodes(inputs_too), constants, dtype=TensorProto.FLOAT, shape=left.shape)

    (product,) = open_session(model).run(None, {"x": left * np.float32(0.5)})

    whole = 0.125 * (left.astype(np.float64) @ right)
    # Of weights alone the kernel rounds each 32 of the inputs to eight bits: by half of one in 127 at most.
    allowed = 1e-6 if inputs_too else 0.5 / 127
    assert np.abs(product - whole).max() <= allowed * np.abs(whole).max()


def test_a_product_of_two_inputs_is_exact(numbers, processor):
    """Attention's, which has no weight that could be made uint8."""
    left, right = numbers[0].astype(np.int16) - 128, numbers[1][None]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dx"]),
        helper.make_node("Add", ["right", "nothing"], ["k"]),
        helper.make_node("QuantizeLinear", ["k", "scale", "zero"], ["qk"]),
        helper.make_node("DequantizeLinear", ["qk", "scale", "zero"], ["dk"]),
        helper.make_node("MatMul", ["dx", "dk"], ["y"]),
    ]
    constants = {"scale": np.float32(1), "zero": np.int8(0), "right": right.astype(np.float32)}
    constants["nothing"] = np.float32(0)
    model = model_of(nodes, constants, dtype=TensorProto.FLOAT, shape=left.shape)
    (product,) = open_session(model).run(None, {"x": left.astype(np.float32)})
    assert np.array_equal(product, (left.astype(np.int64) @ right).astype(np.float32))


def test_the_product_that_is_tried_is_one_of_uint8_by_int8():
    model = onnx.load_from_string(onnx_session._PRODUCT)
    (node,) = model.graph.node
    types = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert (node.op_type, list(node.input)) == ("MatMulInteger", ["a", "b"])
    assert types == [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32]
    assert not model.graph.initializer, "a constant would be made uint8 by the entry that is to be decided on"


@pytest.mark.parametrize("sum_of_products, expected", [(4 * 255 * 127, False), (2 * (2**15 - 1), True)])
def test_what_the_product_says(sum_of_products, expected, monkeypatch):
    import onnxruntime

    class Session:
        def __init__(self, *args, **kwargs): ...

        def run(self, names, feeds):
            return [np.full((2, 16), sum_of_products, np.int32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert onnx_session.products_saturate.__wrapped__() == expected


def entry(options, key: str) -> str | None:
    try:
        return options.get_session_config_entry(key)
    except RuntimeError:  # it was not set
        return None


# With VNNI the entry would make products take 2.5 times as long.
@pytest.mark.parametrize("saturates, expected", [(False, None), (True, "1")])
def test_exact_products_are_asked_for_where_others_are_not(saturates, expected, monkeypatch):
    monkeypatch.setattr(onnx_session, "products_saturate", lambda: saturates)
    assert entry(session_options(), EXACT_PRODUCTS) == expected
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], {}, dtype=TensorProto.FLOAT, shape=[1])
    assert entry(open_session(model).get_session_options(), EXACT_PRODUCTS) == expected


def test_options():
    plain = session_options()
    assert (plain.intra_op_num_threads, plain.log_severity_level) == (default_threads(), 3)
    assert plain.enable_cpu_mem_arena and plain.enable_mem_pattern
    assert session_options(threads=3).intra_op_num_threads == 3
    lean = session_options(threads=3, keep_memory=False, spin=False, config={"session.disable_prepacking": "1"})
    assert lean.intra_op_num_threads == 3
    assert not lean.enable_cpu_mem_arena and not lean.enable_mem_pattern
    assert entry(lean, "session.intra_op.allow_spinning") == "0"
    assert entry(lean, "session.disable_prepacking") == "1"


def test_a_model_in_memory_finds_its_weight_file(tmp_path):
    tensor = numpy_helper.from_array(np.full(4, 2, np.float32), "w")
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    model = onnx.load_from_string(model_of([node], {}, dtype=TensorProto.FLOAT, shape=[4]))
    model.graph.initializer.append(tensor)
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    feeds = {"x": np.arange(4, dtype=np.float32)}
    in_memory = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False).SerializeToString()
    for session in (open_session(tmp_path / "m.onnx"), open_session(in_memory, weights_folder=tmp_path)):
        assert np.array_equal(session.run(None, feeds)[0], 2 * feeds["x"])
