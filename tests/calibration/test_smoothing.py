import numpy as np
import onnxruntime
import pytest

from laco_calibration.blocks.block_errors import BlockJudge, feature_error
from laco_calibration.blocks.fake_quant import Swap
from laco_calibration.graph.linear_layers import find_blocks
from laco_calibration.graph.partial_runner import SegmentRunner
from laco_calibration.smoothing.fold import find_folds, fold_scales, smoothing_scales
from laco_calibration.smoothing.search import search_strengths
from laco_calibration.source.picture_set import find_pictures, read_tiles
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_export.bundle import open_bundle
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.number_formats import INT8


def _random_scales(folds, graph) -> dict[str, np.ndarray]:
    """Powers of two from 1/16 to 16: a product with one of them is not rounded."""
    random, tensors = np.random.default_rng(0), graph.tensors()
    widths = {fold.source: tensors[fold.source].shape[-1] for fold in folds}
    return {source: np.exp2(random.integers(-4, 5, width)).astype(np.float32) for source, width in widths.items()}


def _run(graph, folder, name, pixels) -> np.ndarray:
    with WeightFile(folder / f"{name}.data") as weights:
        write_graph(graph, folder / f"{name}.onnx", weights, ir_version=10)
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": pixels})[0]


@pytest.mark.parametrize("kind, target", [("aimv2", "trt10.3"), ("siglip", "trt10.3"), ("aimv2", "trt10.14")])
def test_folding_changes_nothing_in_fp32(kind, target, make_tiny_model, make_fp32_bundle, tmp_path):
    folder = make_fp32_bundle(make_tiny_model(kind), target=target)
    graph = graph_from_file(folder / "vision_b1.onnx")
    pixels = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    before = _run(graph, tmp_path, "before", pixels)
    folds = find_folds(graph, find_blocks(graph))
    scales = _random_scales(folds, graph)
    inner = {fold.source for fold in folds}

    fold_scales(graph, folds, scales)
    after = _run(graph, tmp_path, "after", pixels)

    expected = {"norm", "values", "gate"} if kind == "aimv2" else {"norm", "values"}
    assert {fold.kind for fold in folds} == expected
    assert len(inner) == len(folds) >= 4
    np.testing.assert_array_equal(after, before)


def test_a_scaled_input_is_divided(graph, pixels):
    folds = find_folds(graph, find_blocks(graph))
    before = _inputs(graph, pixels[0])
    scales = _random_scales(folds, graph)
    fold_scales(graph, folds, scales)
    after = _inputs(graph, pixels[0])
    for name, scale in scales.items():
        assert np.allclose(after[name] * scale, before[name], rtol=2e-3, atol=1e-3 * np.abs(before[name]).max())


def _inputs(graph, picture) -> dict[str, np.ndarray]:
    seen = {}
    SegmentRunner(graph).run(picture, lambda node, x, _: seen.update({node.inputs[0].name: x.numpy()}))
    return seen


def test_scales_follow_the_paper_and_leave_dead_channels():
    channel_max = np.array([8.0, 2.0, 0.0, 1.0], np.float32)
    weight = np.array([[0.5], [2.0], [1.0], [0.0]], np.float32)
    scales = smoothing_scales(channel_max, [weight], 0.5)
    raw = np.sqrt(np.array([8.0 / 0.5, 2.0 / 2.0]))
    assert np.allclose(scales[:2], raw / np.sqrt(raw.prod()))
    assert scales[2] == scales[3] == 1.0


@pytest.fixture(scope="module")
def judged_with_and_without(make_tiny_model, make_fp32_bundle, plant_outliers, photographs):
    """Errors of all blocks together, of a model with planted outlier channels, as it is and smoothed."""
    folder = make_fp32_bundle(plant_outliers(make_tiny_model(blocks=4, grid=(8, 8)), 60.0))
    bundle, picture_set = open_bundle(folder), find_pictures([photographs])
    tiles = [next(read_tiles(picture, bundle)) for picture in picture_set.pictures[::5]]
    points = []
    for smooth in (False, True):
        graph = graph_from_file(folder / "vision_b1.onnx")
        blocks = find_blocks(graph)
        folds = find_folds(graph, blocks)
        strengths, scales = search_strengths(graph, blocks, folds, tiles[:2], INT8, ["mse"], half_scales=True)
        if smooth:
            before = SegmentRunner(graph).run(tiles[0]).numpy()
            fold_scales(graph, folds, scales)
            assert feature_error(before, SegmentRunner(graph).run(tiles[0]).numpy()).points < 1e-3
        statistics = empty_statistics(graph, "")
        observe(graph, bundle, picture_set, picture_set.pictures[:8], statistics)
        of_node = {linear.node: block.name for block in blocks for linear in block.linears}
        swap = Swap(INT8, statistics.ranges("mse"), of_node, half_scales=True)
        judge = BlockJudge(SegmentRunner(graph), swap, tiles)
        points.append(judge.together([block.name for block in blocks]).points)
    return *points, strengths


def test_planted_outliers_are_smoothed_away(judged_with_and_without):
    as_it_is, smoothed, strengths = judged_with_and_without
    assert as_it_is > 4 * smoothed
    assert max(strengths.values()) > 0
