"""TensorRT's lines condensed, and none of them cut."""

from laco_export.exporter.tensorrt_messages import Messages

LONG = "the node /encoder/layers.17/attention/MatMul_2 cannot be fused, " * 10 + "and has no implementation"


def test_an_error_is_told_whole_and_without_its_source_position():
    lines = [f"[E] [optimizer.cpp::computeCosts::3724] Error Code 10: {LONG}", f"[E] {LONG}", "[W] of no use", "[I] x"]
    assert Messages(lines).reason == f"Error Code 10: {LONG}"


def test_warnings_are_counted():
    assert Messages(["[W] a", "[W]  a", "[W] TF32 is disabled by default."]).warnings == ["a (2 times)"]
