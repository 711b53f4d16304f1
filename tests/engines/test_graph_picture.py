import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from laco_engines.graph_picture import _boxes, _place, draw_merge, merge_names, merge_nodes
from laco_export.errors import BundleError
from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.tower import VisionTower
from laco_export.exporter.vision_graph import trace_and_rewrite

MERGE = "compressors.block_1"


@pytest.fixture(scope="module")
def graph_file(make_tiny_model, tmp_path_factory):
    """``graph_file(half=…, **model options)``: a rewritten graph on disk."""

    def write(half=False, **options):
        tower = VisionTower(make_tiny_model(**options)).eval()
        graph = trace_and_rewrite(tower, (1, 3, 56, 56), opset=20).graph
        if half:
            convert_to_half(graph, choose_fp32(graph, {}))
        path = tmp_path_factory.mktemp("graphs") / "vision_b1.onnx"
        onnx.save(gs.export_onnx(graph), path)
        return path

    return write


def test_the_region_is_the_merge_with_the_casts_inside_it(graph_file):
    whole = onnx.load(graph_file()).graph
    half = onnx.load(graph_file(half=True)).graph
    operators = [node.op_type for node in merge_nodes(whole, MERGE)]
    mlp = ["Reshape", "Transpose", "Reshape", "LayerNormalization", "MatMul", "Add", "Gelu", "MatMul", "Add"]
    assert sorted(operators) == sorted([*mlp, "ReduceMean", "Add"])
    casts = [node for node in merge_nodes(half, MERGE) if node.op_type == "Cast"]
    assert len(casts) == 2  # into the norm and out of it; not the one that the next block's norm reads
    assert len(merge_nodes(half, MERGE)) == len(operators) + 2


def test_the_picture_shows_every_node_once_and_edges_go_down(graph_file):
    path = graph_file(half=True)
    proto = onnx.load(path)
    boxes = _boxes(proto, merge_nodes(proto.graph, MERGE))
    _place(boxes)
    assert len({(box.row, box.column) for box in boxes.values()}) == len(boxes)  # no two in one place
    for box in boxes.values():
        assert all(boxes[name].row < box.row for name in box.before if name in boxes)
    columns = {box.title: box.column for box in boxes.values()}
    assert columns["MatMul"] == 0
    assert columns["ReduceMean"] == 1  # the residual beside the MLP
    norm = next(box for box in boxes.values() if box.title == "LayerNormalization")
    assert norm.lines == ["compressors.block_1.mlp.norm", "fp32 [1, 2, 2, 128], weight [128], bias [128]"]
    image = draw_merge(path)
    assert image.width > 700  # two columns
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(206, 224, 255), (216, 240, 214), (240, 214, 240)} <= colours  # MatMul, norm, mean


def test_each_merge_of_a_path_is_drawn_without_what_lies_between(graph_file):
    path = graph_file(at="1/2+1")
    graph = onnx.load(path).graph
    merges = [f"compressors.path_1_2.block_{block}" for block in (1, 2)]
    assert merge_names(graph) == merges
    for merge in merges:
        assert all(f"vision_model.{merge}" in node.name for node in merge_nodes(graph, merge))
    one, two = draw_merge(graph_file()), draw_merge(path)
    assert two.height == 2 * one.height


@pytest.mark.parametrize("method", ["pixel_shuffle", "average_pool", "token_packer"])
def test_every_compressor_is_drawn(graph_file, method):
    image = draw_merge(graph_file(method=method))
    assert np.asarray(image).std() > 5


def test_without_a_merge_there_is_nothing_to_draw(graph_file):
    with pytest.raises(BundleError, match="has no merge to draw"):
        draw_merge(graph_file(method=None))
