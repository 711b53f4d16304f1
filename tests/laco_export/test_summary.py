import io
from dataclasses import replace

import pytest
from rich.console import Console

from laco_export.bundle import Manifest, TensorSpec, Vision, VisionGraph
from laco_export.summary import _vocabulary, bytes_by_part, comparison_line, show_summary, summary_lines


def compared(name, cosine, **numbers):
    tolerance = {"cosine": 0.999, "norm_drift": 0.01, "max_abs": 0.1}
    return {
        "name": name,
        "cosine": cosine,
        "norm_ratio": 1.002,
        "max_abs": 0.5,
        "largest": 20.0,
        "tolerance": tolerance,
        **numbers,
    }


@pytest.fixture
def manifest():
    graph = VisionGraph(
        "vision_b1.onnx",
        1,
        TensorSpec("pixel_values", "float32", (1, 3, 56, 56)),
        TensorSpec("image_features", "float32", (1, 4, 48)),
    )
    measured = [{"node": f"n{i}", "reason": f"|t{i}| reaches 1e+06, above 1.638e+04"} for i in range(12)]
    vision = Vision(
        [graph],
        "vision.data",
        20,
        10,
        "fp16",
        kept_fp32=[{"node": f"norm{i}", "reason": "norm statistics (rule)"} for i in range(6)] + measured,
        rewrites=[
            {"name": "merge_windows", "fired": 1, "refused": []},
            {"name": "scale_queries", "fired": 23, "refused": ["a: read twice", "b: read twice", "c: no scale"]},
        ],
        nodes={"MatMul": 40, "Cast": 24},
        nodes_before={"MatMul": 40, "Expand": 3},
        flops={"total": 222.4e9, "ratio_to_1": 0.6203},
    )
    return Manifest(
        tool_version="0",
        libraries={},
        source={"name": "c", "sha256": "0"},
        encoder={"model_type": "aimv2_vision_model", "num_blocks": 24},
        compression={
            "method": "laco",
            "depth": "1/2",
            "block": 12,
            "ratio": 2,
            "tokens_before": 576,
            "tokens_after": 144,
        },
        vision=vision,
        preprocessing={},
        golden="golden.npz",
        accuracy={
            "judged_by": "half arithmetic",
            "pictures": ["a", "b"],
            "pictures_are": "given",
            "tensors": [
                compared("layers.0", 0.99995),
                compared("layers.1", 0.9991),
                compared("image_features", 0.9998),
            ],
            "branches": [compared("layers.1 minus its input", 0.998)],
            "rewritten": {
                "judged_by": "the rewritten graph in FP32, block by block",
                "tensors": [compared("layers.3", 0.9999998)],
                "branches": [],
            },
        },
        build={
            "seconds": {"trace": 10.25, "compare": 20.5},
            "compiled": [{"builder": "TensorRT-RTX", "version": "1.7", "plan_bytes": 64e6}],
        },
        notes=["a note"],
        files={
            "vision_b1.onnx": {"bytes": 10_000},
            "vision.data": {"bytes": 633_000_000},
            "llm/model.onnx": {"bytes": 2_000_000},
            "laco.txt": {"bytes": 500},
        },
    )


def text_of(manifest):
    return "\n".join(f"{label}|{text}" for label, text in summary_lines(manifest))


def test_everything_that_the_export_decided_is_in_it(manifest):
    text = text_of(manifest)
    for line in (
        "merge|laco @1/2 (after block 12), 576 → 144 tokens",
        "FLOPs|222.4 G a picture, 0.620 of a merge at @1",
        "vision graph|fp16 for trt10.3, opset 20, IR 10",
        "rewrites|merge_windows ×1, scale_queries ×23",
        "|scale_queries refused: a: read twice; b: read twice; and 1 more",
        "FP32 islands|6 nodes: norm statistics",
        "|1 node: |t0| reaches 1e+06, above 1.638e+04",
        "|5 more for reasons of their own: vision.kept_fp32 of laco.json",
        "judged by|half arithmetic, 2 given pictures",
        "worst boundary|layers.1: cosine 0.9991000, norm ratio 1.00200, max abs 5.00e-01",
        "worst block|layers.1 minus its input: cosine 0.9980000",
        "image_features|cosine 0.9998000",
        "rewritten|the rewritten graph in FP32, block by block: worst at layers.3",
        "compiled|TensorRT-RTX 1.7, plan 64.0 MB",
        "bytes|vision 633.0 MB, llm 2.0 MB, other 0.5 kB",
        "seconds|  10.2  trace",
        "|  30.8  together",
        "notes|a note",
    ):
        assert line in text


def test_nodes_are_counted_before_and_after_by_operator(manifest):
    shown = io.StringIO()
    show_summary(manifest, Console(file=shown, width=200), title="here")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.getvalue().splitlines() if "│" in line]
    assert ["MatMul", "40", "40"] in rows
    assert ["Expand", "3", "0"] in rows
    assert ["Cast", "0", "24"] in rows
    assert ["all", "43", "64"] in rows


def test_an_unfinished_manifest_is_shown_as_far_as_it_goes(manifest):
    bare = replace(
        manifest,
        accuracy={},
        build={},
        notes=[],
        compression={**manifest.compression, "method": None, "tokens_after": 576},
        vision=replace(manifest.vision, flops={}, rewrites=[], kept_fp32=[]),
    )
    text = text_of(bare)
    assert "merge|none, 576 tokens a picture" in text
    for absent in ("FLOPs", "rewrites", "islands", "judged", "seconds", "notes"):
        assert absent not in text


def test_a_calibrated_bundle_says_how_it_was_calibrated(manifest):
    blocks = [{"eight_bit": True}, {"eight_bit": False}, {"eight_bit": True}]
    record = {"number_format": "int8", "recipe": "tensorrt", "method": "entropy", "blocks": blocks}
    calibrated = replace(manifest, vision=replace(manifest.vision, calibration=record))
    assert "calibrated|int8 for tensorrt, entropy, 2 of 3 parts of blocks" in text_of(calibrated)
    assert "calibrated" not in text_of(manifest)


def test_a_number_that_is_none_is_the_worst_and_reads_as_nan(manifest):
    manifest.accuracy["tensors"].insert(0, compared("embeddings", None, norm_ratio=None, max_abs=None))
    assert "worst boundary|embeddings: cosine nan, norm ratio nan, max abs nan" in text_of(manifest)


def test_each_number_stands_beside_its_tolerance():
    line = comparison_line(compared("x", 0.9995), with_tolerance=True)
    assert line == "cosine 0.9995000 (≥ 0.999), norm ratio 1.00200 (1 ± 0.01), max abs 5.00e-01 (≤ 2.00e+00)"


def test_parts_of_a_bundle_are_summed_largest_first(manifest):
    assert list(bytes_by_part(manifest).items()) == [("vision", 633_010_000), ("llm", 2_000_000), ("other", 500)]


def test_what_had_no_witness_is_said(manifest):
    assert dict(summary_lines(manifest))["witnesses"].startswith("none: exported before")
    witnesses = [{"watched": watched, "by": "another", "max_abs": 0.0} for watched in ("pixel values", "token ids")]
    seen = replace(manifest, accuracy={**manifest.accuracy, "witnesses": witnesses})
    assert dict(summary_lines(seen))["witnesses"] == "agree on pixel values, token ids"


def test_what_a_reduced_vocabulary_lost_is_told_by_script():
    scripts = [{"script": f"script {n}", "tokens": 9, "of": 9, "examples": []} for n in range(8)]
    record = {
        "rows": 32_768,
        "of": 151_936,
        "source": "mine.txt",
        "bytes_saved": 110_119_680,
        "held_out_coverage": 0.9881,
        "left_out": [{"script": "Latin", "tokens": 7, "of": 90, "examples": ["cat", "dog"]}, *scripts],
    }
    assert list(_vocabulary(record)) == [
        "32,768 of 151,936 tokens have a row, chosen from mine.txt: a token reads 110.1 MB less",
        "98.81% of such text has rows where each half of it is judged by what the other half has",
        f"no token but bytes: {'; '.join(f'script {n} (9 of 9 left out)' for n in range(6))}; and 2 more",
        "not all tokens: Latin (7 of 90 left out, as cat dog)",
    ]
    assert len(list(_vocabulary({**record, "held_out_coverage": None, "left_out": []}))) == 1
