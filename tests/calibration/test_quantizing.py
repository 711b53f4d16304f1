"""The quantised graphs: their form, and that they compute what was judged."""

import os
import shutil

import numpy as np
import pytest

from laco_calibration.blocks.block_errors import feature_error
from laco_calibration.blocks.fake_quant import Swap
from laco_calibration.graph.linear_layers import find_blocks, is_linear
from laco_calibration.graph.partial_runner import SegmentRunner
from laco_calibration.quantizing import FORMS, Placement
from laco_calibration.quantizing.quantized_graphs import carry
from laco_calibration.source.picture_set import find_pictures
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_export.bundle import open_bundle
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.interpreter import GraphInterpreter
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges
from laco_export.exporter.structural_gates import check_structure
from laco_export.exporter.targets import TARGETS
from laco_export.onnx_session import open_session
from laco_export.verified_files import BundleChangedError


@pytest.fixture(scope="module")
def ranges(fp32_bundle, photographs):
    graph = graph_from_file(fp32_bundle.file("vision_b1.onnx"))
    picture_set = find_pictures([photographs])
    statistics = empty_statistics(graph, "", attention=True)
    observe(graph, fp32_bundle, picture_set, picture_set.pictures[:6], statistics)
    return statistics.ranges("mse")


def _judged(graph, placement: Placement, half_scales: bool, picture) -> np.ndarray:
    placed = [*placement.linears(graph), *placement.products(graph)]
    names = {node.name: "all" for node in placed}
    swap = Swap(placement.number_format, placement.ranges, names, half_scales=half_scales)
    swap.active = ("all",)
    return SegmentRunner(graph).run(picture, swap).numpy()


def _shipped(graph, folder, picture, name: str) -> np.ndarray:
    with WeightFile(folder / "vision.data") as weights:
        write_graph(graph, folder / "vision_b1.onnx", weights, ir_version=10)
    if name in ("w8", "w4"):
        # ONNX Runtime fuses them into kernels that round the input as well; TensorRT does not.
        graph = graph_from_file(folder / "vision_b1.onnx")
        return GraphInterpreter(graph).run({"pixel_values": picture}, ["image_features"])["image_features"]
    return _by_onnx_runtime(folder, picture, name)


def _by_onnx_runtime(folder, picture, name: str) -> np.ndarray:
    config = {"session.disable_quant_qdq": "1"} if name == "fp8" else {}  # as the engines open it
    session = open_session(folder / "vision_b1.onnx", config=config)
    return session.run(None, {"pixel_values": picture})[0]


def _all_but(graph, left_out: str) -> list[str]:
    return [block.name for block in find_blocks(graph) if not block.name.endswith(left_out)]


@pytest.mark.parametrize(
    "target, name, attention",
    [
        ("ort-cpu", "int8", False),
        ("trt10.3", "int8", False),
        ("trt10.3", "int8", True),
        ("trt10.3", "fp8", False),
        ("trt10.3", "w8", False),
        ("trt10.14", "w4", False),
    ],
)
def test_the_graph_computes_what_was_judged(target, name, attention, graph, ranges, pixels, tmp_path):
    form = FORMS[target]
    # One block: FP32 sums in another order move a value over a rounding boundary now and then, and every layer behind
    # multiplies that.
    (block,) = [block.name for block in find_blocks(graph) if block.name.endswith("layers.2")]
    placement = Placement(form.formats[name], [block], ranges, {}, attention)
    expected = _judged(graph, placement, form.half_scales, pixels[0])
    plain = SegmentRunner(graph).run(pixels[0]).numpy()

    form.place(graph, placement)
    shipped = _shipped(graph, tmp_path, pixels[0], name)

    error, cost = feature_error(expected, shipped).points, feature_error(plain, shipped).points
    assert error < max(0.1 * cost, 1e-3), (error, cost)
    assert 1e-3 < cost < (10 if name == "w4" else 3)


def test_cpu_weights_alone_unpack_to_what_was_judged(graph, ranges, pixels, tmp_path):
    """MatMulNBits scales blocks of rows, and rounds its input inside: near to the judged numbers, not equal."""
    for name, most in (("w8", 0.3), ("w4", 20)):
        own = graph.copy()
        plain = SegmentRunner(own).run(pixels[0]).numpy()
        placement = Placement(FORMS["ort-cpu"].formats[name], _all_but(own, "none"), {}, {})
        FORMS["ort-cpu"].place(own, placement)
        assert sum(node.op == "MatMulNBits" for node in own.nodes) == 32
        assert feature_error(plain, _shipped(own, tmp_path, pixels[0], "cpu")).points < most


def test_cpu_leaves_no_stray_dequantisation(graph, ranges):
    blocks = find_blocks(graph)
    FORMS["ort-cpu"].place(
        graph, Placement(FORMS["ort-cpu"].formats["int8"], [block.name for block in blocks], ranges, {})
    )
    counts = {op: sum(node.op == op for node in graph.nodes) for op in {node.op for node in graph.nodes}}
    assert counts["MatMulIntegerToFloat"] == 32
    assert counts["QuantizeLinear"] == len({linear.source for block in blocks for linear in block.linears})
    assert "DequantizeLinear" not in counts
    assert not any(is_linear(node) for node in graph.nodes)
    softmax_readers = [reader.op for node in graph.nodes if node.op == "Softmax" for reader in node.outputs[0].outputs]
    assert set(softmax_readers) == {"MatMul"}


@pytest.mark.parametrize("target, name", [("ort-cpu", "int8"), ("trt10.3", "int8"), ("trt10.3", "w8")])
def test_the_zero_point_of_an_int8_weight_is_written_down(target, name, graph, ranges):
    """See laco_export.onnx_session: where weights are made uint8, ONNX Runtime does not get on without."""
    form = FORMS[target]
    form.place(graph, Placement(form.formats[name], _all_but(graph, "none"), ranges, {}))
    readers = [
        node
        for node in graph.nodes
        for tensor in node.inputs
        if tensor.name.endswith("weight/quantized") and tensor.dtype == np.int8
    ]
    assert len(readers) == 32
    for node in readers:
        scales, zero = [node.inputs[index].values for index in ((3, 5) if target == "ort-cpu" else (1, 2))]
        assert zero.dtype == np.int8 and not zero.any()
        assert target == "ort-cpu" or zero.shape == scales.shape, "one zero point beside many scales is refused"


def _q_dq_form(node) -> list[str]:
    """What each input of a MatMul comes from."""
    sources = []
    for tensor in node.inputs:
        writer = tensor.inputs[0] if tensor.inputs else None
        if writer is None or writer.op != "DequantizeLinear":
            sources.append("plain")
            continue
        number = writer.inputs[0]
        zero = writer.inputs[2].values if len(writer.inputs) > 2 else np.zeros(())
        source = "weight" if not number.inputs else number.inputs[0].op
        assert not np.asarray(zero, np.float32).any(), "TensorRT wants zero points of zero"
        sources.append(f"{source} {np.dtype(number.dtype).name}")
    return sources


@pytest.mark.parametrize("attention", [False, True])
def test_tensorrt_quantises_both_inputs_of_what_was_chosen_and_nothing_else(attention, graph, ranges):
    chosen = _all_but(graph, "layers.1")
    placement = Placement(FORMS["trt10.3"].formats["int8"], chosen, ranges, {}, attention)
    linears = {node.name for node in placement.linears(graph)}
    products = {node.name for node in placement.products(graph)}
    assert len(linears) == 25 and len(products) == (6 if attention else 0)

    FORMS["trt10.3"].place(graph, placement)

    for node in graph.nodes:
        if node.op == "MatMul":
            expected = ["plain", "plain"]
            if node.name in linears:
                expected = ["QuantizeLinear int8", "weight int8"]
            elif node.name in products:
                expected = ["QuantizeLinear int8"] * 2
            assert _q_dq_form(node) == expected, node.name
        elif node.op not in ("QuantizeLinear", "DequantizeLinear"):
            writers = [tensor.inputs[0].op for tensor in node.inputs if tensor.inputs]
            assert "DequantizeLinear" not in writers, f"{node.name} reads a dequantised tensor"


def test_attention_beyond_the_limit_stays(graph, ranges, monkeypatch):
    import laco_calibration.quantizing.placement as placement_module

    monkeypatch.setattr(placement_module, "MAX_ATTENTION_TOKENS", 32)
    placement = Placement(FORMS["trt10.3"].formats["int8"], _all_but(graph, "none"), ranges, {}, True)
    assert len(placement.products(graph)) == 4, "only the blocks after the merge are short enough"


@pytest.mark.parametrize("name", ["int8", "fp8", "w8", "w4"])
@pytest.mark.parametrize("islands", [False, True])
def test_in_half_precision_the_graph_is_strongly_typed_and_close(name, islands, graph, ranges, pixels, tmp_path):
    plain = SegmentRunner(graph).run(pixels[0]).numpy()
    kept_fp32 = choose_fp32(graph, measure_ranges(graph, pixels[:1]))
    if islands:  # two Linear layers, and a norm before one, that must stay FP32
        kept_fp32 |= {node.name: "for this test" for node in graph.nodes if "layers.2" in node.name}
    form = FORMS["trt10.3"]
    form.place(graph, Placement(form.formats[name], _all_but(graph, "none"), ranges, kept_fp32, name == "int8"))
    convert_to_half(graph, kept_fp32)

    in_half = GraphInterpreter(graph).run({"pixel_values": pixels[0]}, ["image_features"])["image_features"]
    assert feature_error(plain, in_half).points < (20 if name == "w4" else 3)
    _shipped(graph, tmp_path, pixels[0], name)
    by_runtime = _by_onnx_runtime(tmp_path, pixels[0], name)
    # ONNX Runtime computes half in FP32, so values round to other numbers now and then: by a sixteenth in FP8.
    assert feature_error(in_half, by_runtime).points < {"fp8": 1.0, "w4": 3.0}.get(name, 0.3)
    target = TARGETS["trt10.14" if name == "w4" else "trt10.3"]
    check_structure(tmp_path / "vision_b1.onnx", target)
    half = [node for node in graph.nodes if node.op == "QuantizeLinear" and node.inputs[1].dtype == np.float16]
    assert bool(half) == (name in ("int8", "fp8"))


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_what_is_carried_is_what_was_verified(fp32_bundle, tmp_path, monkeypatch, linked):
    source = open_bundle(shutil.copytree(fp32_bundle.path, tmp_path / "source"))
    link = os.link if linked else lambda *paths: (_ for _ in ()).throw(OSError("another disk"))
    monkeypatch.setattr(os, "link", link)
    carry(source, tmp_path)
    golden = source.file("golden.npz")
    assert (tmp_path / "golden.npz").read_bytes() == golden.read_bytes()
    assert (tmp_path / "golden.npz").samefile(golden) == linked
    (tmp_path / "golden.npz").unlink()
    golden.write_bytes(b"another bundle's")
    with pytest.raises(BundleChangedError):
        carry(source, tmp_path)
    assert not (tmp_path / "golden.npz").exists()


def test_a_file_that_is_replaced_before_it_is_linked_is_copied(fp32_bundle, tmp_path, monkeypatch):
    source = open_bundle(shutil.copytree(fp32_bundle.path, tmp_path / "source"))
    golden, link = source.file("golden.npz"), os.link
    before = golden.read_bytes()

    def link_another(path, target):
        if path == golden:
            golden.unlink()
            golden.write_bytes(b"another bundle's")
        link(path, target)

    monkeypatch.setattr(os, "link", link_another)
    carry(source, tmp_path)
    assert (tmp_path / "golden.npz").read_bytes() == before
