"""What stands in a quantised graph is read back, and one number that is not what was chosen is found."""

import numpy as np
import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.graph.linear_layers import find_blocks
from laco_calibration.quantizing import FORMS, Placement
from laco_calibration.quantizing.written_numbers import check_written


@pytest.fixture(params=["ort-cpu", "trt10.3"])
def quantized(request, graph):
    """``(the graph in eight bits, the FP32 graph, placement, what was seen)``."""
    form, blocks = FORMS[request.param], find_blocks(graph)
    ranges = {linear.source: (-0.3, 2.1) for block in blocks for linear in block.linears}
    placement = Placement(form.formats["int8"], [block.name for block in blocks], ranges, {})
    written = graph.copy()
    form.place(written, placement)
    return written, graph, placement, dict.fromkeys(ranges, (-0.5, 2.1))


def constants(written, ending: str):
    return [tensor for name, tensor in sorted(written.tensors().items()) if name.endswith(ending)]


def check(quantized):
    written, fp32, placement, seen = quantized
    check_written(written, fp32, placement, seen)


def test_what_was_chosen_passes(quantized):
    check(quantized)


def times(factor):
    def change(tensor):
        tensor.values = (np.asarray(tensor.values) * factor).astype(tensor.values.dtype)

    return change


@pytest.mark.parametrize(
    "ending, change, told",
    [
        ("q_proj/MatMul/weight/scale", times(1.25), "the weight's column 0"),
        ("q_proj/MatMul/weight/quantized", times(0.75), "the weight's column 0"),
        ("{input}/scale", times(1.25), "the interval of the numbers"),
        ("{input}/scale", times(0.8), "the interval of the numbers"),
        ("{input}/zero_point", lambda tensor: tensor.values.__iadd__(3), "the interval of the numbers|the zero point"),
    ],
)
def test_a_planted_number_is_found(ending, change, told, quantized):
    written, _, placement, _ = quantized
    change(constants(written, ending.format(input=next(iter(placement.ranges))))[0])
    with pytest.raises(CalibrationError, match=told):
        check(quantized)


def test_a_range_wider_than_what_was_seen_is_found(quantized):
    seen = quantized[3]
    seen[next(iter(seen))] = (-0.3, 1.6)
    with pytest.raises(CalibrationError, match="the range of"):
        check(quantized)


def test_a_linear_layer_whose_input_is_not_quantised_is_found(quantized):
    written = quantized[0]
    node = next(node for node in written.nodes if node.op == "QuantizeLinear")
    written.nodes.remove(node)
    with pytest.raises(CalibrationError, match="the quantisation of"):
        check(quantized)


def test_a_column_of_zeros_passes(graph):
    """Its scale is the smallest, and none of its numbers reaches the largest."""
    block = find_blocks(graph)[0]
    node = next(node for node in graph.nodes if node.name == block.linears[0].node)
    weight = np.array(node.inputs[1].values)
    weight[:, 0] = 0
    node.inputs[1].values = weight
    form = FORMS["ort-cpu"]
    ranges = {linear.source: (0.0, 0.0) for linear in block.linears}
    placement, written = Placement(form.formats["int8"], [block.name], ranges, {}), graph.copy()
    form.place(written, placement)
    check_written(written, graph, placement, dict.fromkeys(ranges, (0.0, 0.0)))
