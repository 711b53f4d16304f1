"""Bundles for each target and precision with several batches, through the command line, on a tiny checkpoint."""

import numpy as np
import onnx
import pytest

from laco_export.bundle import open_bundle
from laco_export.cli import main
from laco_export.errors import UsageError
from laco_export.exporter import compile_gate
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.targets import TARGETS

CASES = [("trt10.3", "fp16"), ("trt10.3", "bf16"), ("trt10.14", "fp16"), ("ort-cpu", "fp32")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def bundle(request, traced_once, tiny_checkpoint, tmp_path_factory):
    target, precision = request.param
    output = tmp_path_factory.mktemp("targets") / "bundle"
    options = ["--target", target, f"--{precision}", "--batch", "3", "5", "--no-llm", "--no-compile"]
    assert main(["--model", str(tiny_checkpoint), "--output", str(output), *options]) == 0
    return open_bundle(output)


def test_one_graph_a_batch_over_one_weight_file(bundle):
    vision = bundle.manifest.vision
    assert [graph.file for graph in vision.graphs] == ["vision_b1.onnx", "vision_b3.onnx", "vision_b5.onnx"]
    assert [graph.input.shape[0] for graph in vision.graphs] == [1, 3, 5]
    stored = {path.name for path in bundle.path.iterdir() if path.name.startswith("vision")}
    assert stored == {"vision.data", *(graph.file for graph in vision.graphs)}
    for graph in vision.graphs:
        proto = onnx.load(str(bundle.file(graph.file)), load_external_data=False)
        external = [t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert {entry.value for t in external for entry in t.external_data if entry.key == "location"} == {
            "vision.data"
        }
        assert proto.ByteSize() < 300_000
    parameters = sum(np.prod(t.dims) for t in external)
    assert bundle.file("vision.data").stat().st_size < 1.5 * 4 * parameters  # once, not once a batch


def test_every_batch_encodes_as_the_first(bundle):
    import onnxruntime

    if bundle.manifest.vision.precision == "bf16":
        pytest.skip("ONNX Runtime's CPU provider has no bfloat16 kernels")
    prepare = bundle.manifest.image_preprocessing
    sessions = {g.batch: onnxruntime.InferenceSession(bundle.file(g.file)) for g in bundle.manifest.vision.graphs}
    with np.load(bundle.file("golden.npz"), allow_pickle=False) as golden:
        pixels = np.stack([prepare.normalize(picture) for picture in golden["pictures"][:3]])
        expected = golden["image_features"][:3]
    (together,) = sessions[3].run(None, {"pixel_values": pixels})
    alone = np.concatenate([sessions[1].run(None, {"pixel_values": picture[None]})[0] for picture in pixels])
    largest = np.abs(expected).max()
    np.testing.assert_allclose(together, alone, atol=2e-3 * largest)
    np.testing.assert_allclose(together, expected, atol=0.02 * largest)


def test_the_graph_keeps_to_what_its_target_reads(bundle):
    vision = bundle.manifest.vision
    target = TARGETS[vision.target]
    assert (vision.opset, vision.ir_version) == (target.opsets[-1], target.max_ir)
    assert "Attention" in vision.nodes or vision.target == "trt10.3"
    assert ("RMSNormalization" in vision.nodes) == (vision.target != "trt10.3")
    assert target.operators is None or set(vision.nodes) <= target.operators


def test_nodes_are_named_by_pytorch_modules(bundle, make_tiny_model):
    modules = {name for name, _ in make_tiny_model().named_modules()}
    proto = onnx.load(str(bundle.file("vision_b3.onnx")), load_external_data=False)
    # Casts stand between two modules: they are named by the tensor.
    prefixes = [node.name.rpartition("/")[0] for node in proto.graph.node if node.op_type != "Cast"]
    named = [prefix for prefix in prefixes if prefix in modules]
    assert len(named) > 0.9 * len(prefixes)
    assert "vision_model.encoder.encoder.layers.0.attention.q_proj" in named
    assert any(name.startswith("projector.") for name in named)


@pytest.mark.tensorrt
def test_it_compiles(bundle):
    builder = compile_gate.available()
    if builder is None:
        pytest.skip("needs TensorRT-RTX (pip install tensorrt-rtx), or TensorRT and a GPU")
    if not TARGETS[bundle.manifest.vision.target].compiled:
        pytest.skip("is not for TensorRT")
    for graph in bundle.manifest.vision.graphs:
        assert compile_gate.compile_graph(bundle.file(graph.file), builder)["plan_bytes"] > 10_000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "trt7"}, "--target is unknown"),
        ({"target": "ort-cpu", "precision": "fp16"}, "does not take this precision"),
        ({"opset": 23}, "--opset is not supported for target trt10.3"),
        ({"batches": (0,)}, "whole numbers of at least 1"),
    ],
)
def test_what_a_target_does_not_take_is_a_usage_error(tmp_path, options, says):
    with pytest.raises(UsageError, match=says) as caught:
        ExportOptions(tmp_path, **options)
    assert "given" in str(caught.value)
