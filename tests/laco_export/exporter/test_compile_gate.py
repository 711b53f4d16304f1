import sys

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from laco_export.errors import ExportError
from laco_export.exporter import compile_gate, engine_builder


@pytest.fixture
def builder():
    builder = compile_gate.available()
    if builder is None:
        pytest.skip("needs TensorRT-RTX (pip install tensorrt-rtx), or TensorRT and a GPU")
    return builder


@pytest.fixture
def graph(make_graph):
    return make_graph(
        [("Add", ["x", "c"], ["y"], {})],
        {"x": (np.float16, [2, 3])},
        {"y": (np.float16, [2, 3])},
        {"c": np.ones((2, 3), np.float16)},
    )


def save(graph, path):
    proto = gs.export_onnx(graph)
    proto.ir_version = 10
    onnx.save(proto, path)
    return path


@pytest.mark.tensorrt
def test_a_strongly_typed_graph_builds(builder, graph, tmp_path):
    built = compile_gate.compile_graph(save(graph, tmp_path / "g.onnx"), builder)
    assert built["builder"] == builder
    assert built["plan_bytes"] > 1000


@pytest.mark.tensorrt
def test_mixed_precision_does_not(builder, graph, tmp_path):
    graph.nodes[0].inputs[1] = gs.Constant("wide", np.ones((2, 3), np.float32))
    with pytest.raises(ExportError, match="does not build") as error:
        compile_gate.compile_graph(save(graph, tmp_path / "g.onnx"), builder)
    assert error.value.given


def test_standard_tensorrt_is_used_only_with_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(compile_gate, "find_spec", lambda name: name == "tensorrt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compile_gate.available() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compile_gate.available() == "tensorrt"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "crashed with signal 6"),
        ("pass", "without a result"),
        ("print('[E] parser refuses Foo'); raise SystemExit(1)", "refuses Foo"),
    ],
)
def test_a_crash_of_the_builder_is_a_failed_gate(monkeypatch, tmp_path, code, says):
    monkeypatch.setattr(engine_builder, "_command", lambda request: [sys.executable, "-c", code])
    with pytest.raises(ExportError) as error:
        compile_gate.compile_graph(tmp_path / "g.onnx", "tensorrt_rtx")
    assert says in error.value.given
