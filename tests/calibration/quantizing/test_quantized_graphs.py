"""The quantised graphs of a bundle for a CPU on processors with VNNI and without: never with sums that are cut off."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_engines.comparison.golden_check import pixel_values
from laco_engines.runtimes import open_runtime
from laco_export import onnx_session
from laco_export.bundle import Bundle, open_bundle, write_manifest
from laco_export.exporter.external_data import graph_from_file
from laco_export.golden import read_golden
from laco_export.number_formats import LARGEST

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"

FEATURES = """
import sys
import numpy as np
from laco_engines.comparison.golden_check import pixel_values
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle
from laco_export.golden import read_golden
from laco_export.onnx_session import open_session, products_saturate

assert products_saturate()
features = {}
for folder in sys.argv[2:]:
    bundle = open_bundle(folder)
    runtime = open_runtime(bundle, name="onnxruntime", threads=1)
    pixels = pixel_values(bundle, read_golden(bundle).pictures)
    features[folder] = runtime.encode(pixels)
    session = open_session(bundle.file("vision_b1.onnx"), exact_products=False, threads=1)
    features[f"{folder} fast"] = np.concatenate([session.run(None, {"pixel_values": one[None]})[0] for one in pixels])
np.savez(sys.argv[1], **features)
"""
"""Of the golden pictures, by each bundle's own way and by ONNX Runtime's defaults."""


@pytest.fixture(scope="module")
def both(calibrated) -> Bundle:
    """Graphs with weights of eight bits, and their twins."""
    return open_bundle(calibrated(target="ort-cpu", all_int8=True).output)


@pytest.fixture(scope="module")
def without_twin(both, tmp_path_factory) -> Bundle:
    """As an earlier version wrote it."""
    folder = tmp_path_factory.mktemp("earlier") / "bundle"
    folder.mkdir()
    for name in both.manifest.files:
        if ".u8s7." not in name:
            (folder / name).parent.mkdir(exist_ok=True)
            os.link(both.file(name), folder / name)
    vision = replace(both.manifest.vision, twin=None, products=None)
    write_manifest(folder, replace(both.manifest, vision=vision, files={}))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def portable(calibrated) -> Bundle:
    return open_bundle(calibrated(target="ort-cpu", all_int8=True, portable=True).output)


def features_of(bundle: Bundle) -> np.ndarray:
    runtime = open_runtime(bundle, name="onnxruntime", threads=1)
    return runtime.encode(pixel_values(bundle, read_golden(bundle).pictures))


def weights_of(path: Path) -> list[np.ndarray]:
    """int8 ``[in, out]`` of each Linear layer."""
    nodes = graph_from_file(path).nodes
    return [np.asarray(node.inputs[1].values) for node in nodes if node.op == "MatMulIntegerToFloat"]


def cut_off_pairs(weights: np.ndarray) -> int:
    """Pairs of rows whose products with uint8 can leave the 16 bits that vpmaddubsw adds them in: both inputs are 255
    where their weights have one sign, and 0 for the one where they do not."""
    rows = weights[: len(weights) // 2 * 2].astype(np.int64)
    pairs = rows.reshape(-1, 2, rows.shape[1])  # [in / 2, 2, out]
    highest, lowest = 255 * np.maximum(pairs, 0).sum(1), 255 * np.minimum(pairs, 0).sum(1)
    return int(((highest > 2**15 - 1) | (lowest < -(2**15))).sum())


def test_no_pair_of_products_of_the_twin_can_be_cut_off(both, portable):
    vision = both.manifest.vision
    eight, seven = (weights_of(both.file(name)) for name in (vision.graphs[0].file, vision.twin["graphs"][0]["file"]))
    assert len(eight) == len(seven) == 32
    assert sum(map(cut_off_pairs, eight)) > 1000 and sum(map(cut_off_pairs, seven)) == 0
    narrow = LARGEST[portable.manifest.vision.calibration["weights"]]
    assert all(abs(weights).max() == narrow for weights in seven)
    for alone, beside in zip(weights_of(portable.file("vision_b1.onnx")), seven, strict=True):
        np.testing.assert_array_equal(alone, beside)


def test_the_manifest_states_what_the_graphs_need(both, portable, without_twin, calibrated):
    vision = both.manifest.vision
    assert vision.products == "u8s8" and vision.twin["products"] == "u8s7"
    assert [graph["batch"] for graph in vision.twin["graphs"]] == [graph.batch for graph in vision.graphs] == [1, 2]
    assert (portable.manifest.vision.products, portable.manifest.vision.twin) == ("u8s7", None)
    assert without_twin.manifest.vision.products is None
    assert open_bundle(calibrated(all_int8=True).output).manifest.vision.products is None, "the device's own"
    judged = vision.calibration
    assert judged["twin"]["points"] == portable.manifest.vision.calibration["points"] > judged["points"]


def test_where_sums_are_cut_off_the_twin_runs(both, portable, monkeypatch):
    here = features_of(both)
    monkeypatch.setattr(onnx_session, "products_saturate", lambda: True)
    runtime = open_runtime(both, name="onnxruntime", threads=1)
    assert runtime.name.endswith("weights of seven bits") and "the bundle's twin" in runtime.passed_over[-1]
    assert runtime.batch_sizes == [1, 2]
    np.testing.assert_array_equal(features_of(both), features_of(portable))
    assert abs(features_of(both) - here).max() > 1e-3


def test_without_a_twin_products_are_exact_there(without_twin, monkeypatch):
    here = features_of(without_twin)
    monkeypatch.setattr(onnx_session, "products_saturate", lambda: True)
    np.testing.assert_allclose(features_of(without_twin), here, atol=1e-4)
    named = replace(without_twin.manifest.vision, products="u8s8")
    bundle = replace(without_twin, manifest=replace(without_twin.manifest, vision=named))
    runtime = open_runtime(bundle, name="onnxruntime", threads=1)
    assert "exact products run, which are slower" in runtime.passed_over[-1]


@pytest.fixture
def calibrate_between(both, fp32_folder, photographs, tmp_path, monkeypatch):
    """``calibrate_between()`` with a budget that weights of eight bits in all blocks are within, and of seven not."""
    from laco_calibration import selection, sensitivity
    from laco_calibration.blocks.choice import BlockTime

    faster = lambda graph, blocks, *_, **__: {block.name: BlockTime(1.0, 0.5) for block in blocks}
    monkeypatch.setattr(sensitivity, "measure_blocks", faster)
    monkeypatch.setattr(selection, "_time_whole", lambda *_: None)
    judged = both.manifest.vision.calibration
    least = max(judged["points"], judged["golden"]["share_of_tolerance"] * judged["max_drop"])
    most = max(judged["twin"]["points"], judged["twin"]["golden_points"])
    assert least < 0.9 * most
    options = {"images": [photographs], "target": "ort-cpu", "method": "max", "smoothing": False}
    return lambda: calibrate(
        CalibrationOptions(fp32_folder, **options, max_drop=(least * most) ** 0.5, output=tmp_path / "out")
    )


def test_a_twin_over_the_budget_has_fewer_blocks(calibrate_between):
    record = calibrate_between().record
    twin, chosen = record["twin"], sum(block["eight_bit"] for block in record["blocks"])
    assert 0 < twin["blocks"] < chosen
    assert max(twin["points"], twin["golden_points"]) <= record["max_drop"]


def test_a_twin_that_stays_over_the_budget_is_left_out_and_said(both, calibrate_between, monkeypatch):
    monkeypatch.setattr("laco_calibration.twin._CHOICES", 0)
    report = calibrate_between()
    bundle = open_bundle(report.output)
    assert any("no twin with weights of seven bits" in note for note in bundle.manifest.notes)
    assert (bundle.manifest.vision.products, bundle.manifest.vision.twin) == ("u8s8", None)
    assert report.record["twin"] is None and not [*report.output.glob("*u8s7*")]
    assert bundle.file("vision.data").stat().st_size < both.file("vision.data").stat().st_size


def test_a_processor_without_vnni_computes_the_same(both, without_twin, portable, calibrated, tmp_path, monkeypatch):
    """In a process that does not see VNNI, by the kernels that ONNX Runtime has for AVX2."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from processor_without_vnni import without_vnni

    environment = without_vnni(tmp_path)
    if environment is None:
        pytest.skip("needs x86-64 Linux that lets CPUID be answered by others, and a C compiler")
    for_tensorrt = open_bundle(calibrated(all_int8=True).output)
    bundles = [both, without_twin, portable, for_tensorrt]
    command = [
        sys.executable,
        "-c",
        FEATURES,
        str(tmp_path / "features.npz"),
        *(str(bundle.path) for bundle in bundles),
    ]
    subprocess.run(command, env=environment, check=True)
    there = np.load(tmp_path / "features.npz")
    here = [features_of(bundle) for bundle in (portable, without_twin, portable, for_tensorrt)]
    for bundle, expected in zip(bundles, here, strict=True):
        # Whole numbers are the same; FP32 sums are added in another order, and may round another way in front of one.
        differences = np.sort(abs(there[str(bundle.path)] - expected).reshape(-1))
        assert differences[int(0.99 * differences.size)] < 1e-3 * abs(expected).max(), bundle.path
    fast = abs(there[f"{without_twin.path} fast"] - here[1])
    assert fast.mean() > 10 * abs(there[str(without_twin.path)] - here[1]).mean(), "what a session by default cuts off"
