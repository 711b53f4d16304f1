"""What TensorRT-RTX's own parser and compiler make of the Q/DQ graphs; needs no GPU."""

import pytest

from laco_calibration.graph.linear_layers import find_blocks
from laco_calibration.quantizing import FORMS, Placement
from laco_calibration.source.picture_set import find_pictures
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_calibration.tensorrt_gate import quantized_matmuls
from laco_export.exporter.compile_gate import available, compile_graph
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(not available(), reason="needs TensorRT-RTX, or TensorRT and a GPU"),
]


@pytest.fixture(scope="module")
def written(fp32_bundle, photographs, pixels, tmp_path_factory):
    """``written(format, attention)``: the file of a half graph, and the names of the MatMuls that were chosen."""
    base = graph_from_file(fp32_bundle.file("vision_b1.onnx"))
    picture_set, statistics = find_pictures([photographs]), empty_statistics(base, "", attention=True)
    observe(base, fp32_bundle, picture_set, picture_set.pictures[:4], statistics)
    ranges, islands = statistics.ranges("max"), choose_fp32(base, measure_ranges(base, pixels[:1]))

    def make(name, attention=False):
        graph = graph_from_file(fp32_bundle.file("vision_b1.onnx"))
        form, kept_fp32 = FORMS["trt10.3"], dict(islands)
        blocks = [block.name for block in find_blocks(graph) if not block.name.endswith("layers.1")]
        placement = Placement(form.formats[name], blocks, ranges, kept_fp32, attention)
        chosen = set(placement.node_names(graph))
        form.place(graph, placement)
        convert_to_half(graph, kept_fp32)
        folder = tmp_path_factory.mktemp(name)
        with WeightFile(folder / "vision.data") as weights:
            write_graph(graph, folder / "vision_b1.onnx", weights, ir_version=10)
        return folder / "vision_b1.onnx", chosen

    return make


@pytest.mark.parametrize("name, attention", [("int8", False), ("int8", True), ("fp8", False), ("w8", False)])
def test_compiles(name, attention, written):
    path, _ = written(name, attention)
    assert compile_graph(path, available())["plan_bytes"] > 0


@pytest.mark.parametrize("attention", [False, True])
def test_in_the_parsed_network_both_inputs_of_each_chosen_matmul_are_int8_and_of_no_other(attention, written):
    path, chosen = written("int8", attention)
    products = quantized_matmuls(path)
    assert {name for name, kinds in products.items() if kinds == ("INT8", "INT8")} == chosen
    assert {kinds for name, kinds in products.items() if name not in chosen} == {(None, None)}
    assert len(products) > len(chosen)
