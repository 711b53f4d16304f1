"""How a path of several merges stands in a benchmark's records."""

from laco_engines.bench.results import BenchReport, EncodeResult


def result(**changes) -> EncodeResult:
    fields = {"bundle": "b", "depth": 0.25, "precision": "fp32", "runtime": "ONNX Runtime", "batch": 1, "runs": [1]}
    times = {"padded": 0, "p50_ms": 4.0, "p95_ms": 5.0, "images_per_s": 250.0, "kept": 5, "rejected": 0}
    return EncodeResult(**{**fields, **times, "cpu_over_wall": 1.0, "flops_per_image": 1e9, **changes})


def test_one_merge_is_recorded_as_ever():
    assert result().depth_label == "0.25"
    assert "depths" not in result().to_dict()


def test_several_merges_are_labelled_and_drawn_apart():
    two = result(depths=[0.25, 0.75])
    assert two.depth_label == "0.25+0.75"
    assert two.to_dict()["depths"] == [0.25, 0.75]
    report = BenchReport({}, "", {}, encode=[result(), result(depth=0.5), two])
    series = report.points()
    assert [len(points) for points in series.values()] == [2, 1]
    assert list(series)[1].endswith("batch 1, 2 merges")
