"""Each kernel computes what ONNX Runtime computes of its operator."""

import numpy as np
import pytest

from laco_export.exporter.interpreter import GraphInterpreter
from laco_export.exporter.kernels import KERNELS

F32 = np.float32


I = lambda *values: np.array(values, np.int64)  # noqa: E741
IMAGE = {"x": (F32, [1, 4, 6, 6])}
CASES = {
    "Conv": ([("Conv", ["x", "w", "b"], ["y"], {"strides": [2, 2], "pads": [1, 1, 1, 1]})], [1, 3, 3, 3]),
    "LayerNormalization": ([("LayerNormalization", ["x", "s", "s"], ["y"], {"epsilon": 1e-3})], [1, 4, 6, 6]),
    "ReduceMean": ([("ReduceMean", ["x", "axes"], ["y"], {"keepdims": 0})], [1, 6]),
    "Pad edge": ([("Pad", ["x", "pads"], ["y"], {"mode": "edge"})], [1, 4, 8, 7]),
    "Pad constant": ([("Pad", ["x", "pads", "half"], ["y"], {})], [1, 4, 8, 7]),
    "Slice": ([("Slice", ["x", "one", "many", "last"], ["y"], {})], [1, 4, 6, 5]),
    "Gather": ([("Gather", ["x", "pick"], ["y"], {"axis": 1})], [1, 2, 6, 6]),
    "Concat": ([("Concat", ["x", "x"], ["y"], {"axis": -1})], [1, 4, 6, 12]),
    "Split": ([("Split", ["x"], ["y", "z"], {"axis": 1, "num_outputs": 2})], [1, 2, 6, 6]),
    "Unsqueeze": ([("Unsqueeze", ["x", "ends"], ["y"], {})], [1, 1, 4, 6, 6, 1]),
    "Reshape with 0 and -1": ([("Reshape", ["x", "keep"], ["y"], {})], [1, 144]),
    "Gelu": ([("Gelu", ["x"], ["y"], {"approximate": "tanh"})], [1, 4, 6, 6]),
    "exact Gelu": ([("Gelu", ["x"], ["y"], {})], [1, 4, 6, 6]),
    "Softmax": ([("Softmax", ["x"], ["y"], {"axis": 1})], [1, 4, 6, 6]),
    "Pow": ([("Pow", ["x", "two"], ["y"], {})], [1, 4, 6, 6]),
    "Erf": ([("Erf", ["x"], ["y"], {})], [1, 4, 6, 6]),
    "Expand": ([("Expand", ["x", "three"], ["y"], {})], [3, 4, 6, 6]),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels_compute_what_onnxruntime_computes(make_graph, run_graph, name):
    values = np.random.default_rng(0)
    nodes, shape = CASES[name]
    constants = {
        "w": values.standard_normal((3, 4, 3, 3)).astype(F32),
        "b": values.standard_normal(3).astype(F32),
        "s": values.standard_normal(6).astype(F32),
        "axes": I(1, 2),
        "pads": I(0, 0, 1, 0, 0, 0, 1, 1),
        "half": F32(0.5).reshape(()),
        "one": I(1),
        "many": I(99),
        "last": I(-1),
        "pick": I(-1, 0),
        "ends": I(0, -1),
        "keep": I(0, -1),
        "two": F32(2).reshape(()),
        "three": I(3, 1, 1, 1),
    }
    used = {tensor for _, inputs, _, _ in nodes for tensor in inputs}
    graph = make_graph(nodes, IMAGE, {"y": (F32, shape)}, {k: v for k, v in constants.items() if k in used})
    feeds = {"x": values.standard_normal((1, 4, 6, 6)).astype(F32)}
    result = GraphInterpreter(graph).run(feeds, ["y"])["y"]
    assert list(result.shape) == shape
    np.testing.assert_allclose(result, run_graph(graph, feeds)["y"], rtol=1e-4, atol=1e-5)


@pytest.fixture
def trace_module():
    """``trace_module(module)``: its graph by torch's exporter, as towers are traced."""
    import onnx_graphsurgeon as gs
    import torch

    from laco_export.exporter.vision_graph import NEWEST_TRACED
    from laco_export.quiet import quiet

    def trace(module):
        with quiet():
            program = torch.onnx.export(module, (torch.zeros(1, 4),), dynamo=True, opset_version=NEWEST_TRACED)
            return gs.import_onnx(program.model_proto).fold_constants().cleanup()

    return trace


def test_every_activation_that_an_encoder_may_have_traces_to_known_operators(trace_module):
    """What ``EncoderSpec.check`` accepts, the exporter judges."""
    from torch import nn
    from transformers.activations import ACT2FN

    from laco_export.models.encoders.specification import ACTIVATIONS

    graph = trace_module(nn.Sequential(*(ACT2FN[name] for name in ACTIVATIONS)))
    assert {node.op for node in graph.nodes} - set(KERNELS) == set()
    refused = trace_module(nn.Sequential(ACT2FN["mish"], ACT2FN["leaky_relu"]))
    assert {node.op for node in refused.nodes} - set(KERNELS) == {"Mish", "LeakyRelu"}
