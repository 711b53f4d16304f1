"""Sessions: threads by one rule, and integer products that do not saturate."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from laco_export.machine import default_threads
from laco_export.onnx_session import open_session, session_options


def entry(options, key: str) -> str:
    return options.get_session_config_entry(key)


def test_every_session_asks_for_exact_integer_products():
    assert entry(session_options(), "session.x64quantprecision") == "1"


def test_threads_are_the_cores_that_may_be_used():
    assert session_options().intra_op_num_threads == default_threads()
    assert session_options(threads=3).intra_op_num_threads == 3


def test_options_are_what_was_asked_for(tmp_path):
    options = session_options(keep_memory=False, spin=False, weights_folder=tmp_path, entries={"session.a": "b"})
    assert not options.enable_cpu_mem_arena and not options.enable_mem_pattern
    assert entry(options, "session.intra_op.allow_spinning") == "0"
    assert entry(options, "session.model_external_initializers_file_folder_path") == str(tmp_path)
    assert entry(options, "session.a") == "b"


def saturating_product(numbers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 ``[M, K]`` by int8 ``[K, N]`` as x86 without VNNI multiplies them: pairs are added in 16 bits."""
    pairs = numbers.astype(np.int32)[:, :, None] * weights.astype(np.int32)[None]  # [M, K, N]
    sums = pairs[:, 0::2] + pairs[:, 1::2]
    return np.clip(sums, -(2**15), 2**15 - 1).sum(1)


@pytest.mark.parametrize("operator", ["MatMulInteger", "MatMulIntegerToFloat"])
def test_full_range_numbers_are_multiplied_exactly(operator):
    generator = np.random.default_rng(0)
    numbers = generator.integers(128, 256, (16, 64), dtype=np.uint8)
    weights = generator.integers(64, 128, (64, 32), dtype=np.int8)
    exact = numbers.astype(np.int64) @ weights.astype(np.int64)
    assert (saturating_product(numbers, weights) != exact).all(), "these numbers would show it"

    inputs, domain = ["a", "w"], ""
    constants = [numpy_helper.from_array(weights, "w")]
    if operator == "MatMulIntegerToFloat":
        domain = "com.microsoft"
        inputs += ["one", "one"]
        constants.append(numpy_helper.from_array(np.ones((), np.float32), "one"))
    kind = onnx.TensorProto.FLOAT if domain else onnx.TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["c"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, list(numbers.shape))],
        [helper.make_tensor_value_info("c", kind, [16, 32])],
        constants,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    (product,) = open_session(model).run(None, {"a": numbers})
    np.testing.assert_array_equal(product.astype(np.int64), exact)
