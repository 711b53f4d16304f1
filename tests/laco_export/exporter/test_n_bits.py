"""Blocks: bounded errors, the layout that ONNX Runtime reads, and scales that are searched."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from laco_export.errors import ExportError
from laco_export.exporter import n_bits
from laco_export.exporter.n_bits import dequantize_blocks, quantize_blocks
from laco_export.number_formats import ROWS_PER_SCALE, quantize_weight


def random_matrix(rows=24, columns=96, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("columns", [96, 128, 70])
@pytest.mark.parametrize(("bits", "block_size"), [(8, 32), (8, 128), (4, 32), (4, 128)])
def test_errors_are_bounded_by_the_step(bits, block_size, columns):
    matrix = random_matrix(columns=columns)
    blocks, scales = quantize_blocks(matrix, bits, block_size)
    assert blocks.shape == (24, -(-columns // block_size), block_size * bits // 8)
    assert scales.shape == (24 * blocks.shape[1],)
    dequantized = dequantize_blocks(blocks, scales, bits, columns)
    step = np.abs(scales).reshape(24, -1).repeat(block_size, axis=1)[:, :columns]
    # Half a step where nothing is clipped; the searched scale clips at most a fifth of a value.
    allowed = step / 2 if bits == 8 else np.maximum(step / 2, 0.25 * np.abs(matrix) + step)
    assert (np.abs(dequantized - matrix) <= allowed + step * (bits == 8) / 2 + 1e-6).all()
    assert np.linalg.norm(dequantized - matrix) / np.linalg.norm(matrix) < {8: 0.01, 4: 0.13}[bits]


@pytest.mark.parametrize("accuracy_level", [0, 4])
@pytest.mark.parametrize(("bits", "block_size"), [(8, 32), (8, 128), (4, 32), (4, 128)])
def test_onnx_runtime_reads_what_is_written(bits, block_size, accuracy_level):
    matrix, inputs = random_matrix(columns=200), random_matrix(5, 200, seed=1)
    blocks, scales = quantize_blocks(matrix, bits, block_size)
    sizes = {"K": 200, "N": 24, "bits": bits, "block_size": block_size, "accuracy_level": accuracy_level}
    graph = helper.make_graph(
        [helper.make_node("MatMulNBits", ["x", "blocks", "scales"], ["y"], domain="com.microsoft", **sizes)],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [5, 200])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [5, 24])],
        [onnx.numpy_helper.from_array(values, name) for name, values in (("blocks", blocks), ("scales", scales))],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    outputs = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": inputs})[0]
    expected = inputs @ dequantize_blocks(blocks, scales, bits, 200).T
    # Level 0 keeps the inputs FP32; level 4 rounds each to 8 bits of its block's largest.
    error = np.linalg.norm(outputs - expected) / np.linalg.norm(expected)
    assert error < (1e-5 if accuracy_level == 0 else 0.015)
    assert accuracy_level == 0 or error > 1e-4  # it does round: the level is taken


def test_the_search_lowers_the_squared_error(monkeypatch):
    matrix = random_matrix(200, 256)
    searched = dequantize_blocks(*quantize_blocks(matrix, 4, 32), 4, 256)
    monkeypatch.setitem(n_bits.SHRINK, 4, (1.0,))
    plain = dequantize_blocks(*quantize_blocks(matrix, 4, 32), 4, 256)
    errors = [np.square(matrix - dequantized).sum() for dequantized in (searched, plain)]
    assert errors[0] < 0.97 * errors[1]


def test_zeros_and_one_sided_blocks_are_exact():
    matrix = np.zeros((2, 64), np.float32)
    matrix[0, 3] = 2.5
    for bits in (4, 8):
        dequantized = dequantize_blocks(*quantize_blocks(matrix, bits, 32), bits, 64)
        assert np.isfinite(dequantized).all()
        assert np.allclose(dequantized, matrix, atol=2.5 * 0.11)
        assert (dequantized[1] == 0).all() and (dequantized[0, 32:] == 0).all()


def test_working_in_parts_changes_nothing(monkeypatch):
    matrix = random_matrix(50, 64)
    whole = quantize_blocks(matrix, 4, 32)
    monkeypatch.setattr(n_bits, "_ROWS_BYTES", 4 * 64 * 7)  # seven rows at a time
    parts = quantize_blocks(matrix, 4, 32)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bits, value):
    """Searching for the least error would turn the block into zeros without a word."""
    weight = random_matrix()
    weight[3, 5] = value
    with pytest.raises(ExportError, match="inf or NaN"):
        quantize_blocks(weight, bits, 32)


@pytest.mark.parametrize("bits, kind", [(8, "int8"), (4, "int4")])
def test_without_a_search_the_numbers_are_those_of_the_number_format(bits, kind):
    """What a calibration judges is what its file holds."""
    matrix = random_matrix(24, 96)
    blocks, scales = quantize_blocks(matrix, bits, ROWS_PER_SCALE, search=False)
    packed = dequantize_blocks(blocks, scales, bits, 96)
    if kind == "int4":
        np.testing.assert_array_equal(packed, quantize_weight(kind, matrix.T).dequantized().T)
    largest = np.abs(matrix.reshape(24, -1, ROWS_PER_SCALE)).max(-1).reshape(-1)
    np.testing.assert_allclose(scales, largest / (2 ** (bits - 1) - 1), rtol=1e-6)
    assert np.isfinite(quantize_blocks(np.zeros((2, 32), np.float32), bits, 32, search=False)[1]).all()
