"""The export as a whole, through the command line, on tiny checkpoints."""

import json
import weakref
from importlib import import_module

import numpy as np
import onnx
import pytest

from laco_export.bundle import open_bundle
from laco_export.cli import main
from laco_export.exporter import compile_gate

pytestmark = pytest.mark.usefixtures("traced_once")


def export(checkpoint, output, *options):
    return main(["--model", str(checkpoint), "--output", str(output), *options])


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint, tmp_path_factory):
    """The whole bundle in FP16, as the user's own line makes it."""
    output = tmp_path_factory.mktemp("bundles") / "fp16"
    assert export(tiny_checkpoint, output, "--at", "1/2", "--fp16", "--no-compile") == 0
    return open_bundle(output)


def test_the_bundle_is_complete_and_nothing_else_is_in_it(bundle):
    names = {path.relative_to(bundle.path).parts[0] for path in bundle.path.rglob("*")}
    assert {"laco.json", "vision_b1.onnx", "vision.data", "golden.npz", "llm", "tokenizer.json"} <= names
    assert {"preprocessor_config.json", "tokenizer_config.json"} <= names
    assert not any("marked" in name or name.startswith(".") for name in names)
    assert [path.name for path in bundle.path.parent.iterdir()] == ["fp16"]


def test_the_manifest_says_what_was_done(bundle):
    manifest = bundle.manifest
    assert manifest.compression == {
        "method": "laco",
        "depth": "1/2",
        "block": 1,
        "ratio": 2,
        "tokens_before": 16,
        "tokens_after": 4,
    }
    graph = manifest.vision.graphs[0]
    assert (graph.input.name, graph.input.dtype, graph.input.shape) == ("pixel_values", "float32", (1, 3, 56, 56))
    assert (graph.output.name, graph.output.dtype, graph.output.shape) == ("image_features", "float32", (1, 4, 48))
    assert {r["name"]: r["fired"] for r in manifest.vision.rewrites} == {
        "fold_constants": 0,
        "merge_windows": 1,
        "average_residual": 1,
        "pool_windows": 0,
        "fold_layer_scale": 0,
        "scale_queries": 2,
        "remove_identities": 0,
        "merge_duplicates": 1,
    }
    assert all(island["reason"] for island in manifest.vision.kept_fp32)
    assert manifest.decoder.folder == "llm"
    assert any("untrained" in note and "projector" in note for note in manifest.notes)
    assert any("--no-compile" in note for note in manifest.notes)


def test_accuracy_is_judged_in_half_arithmetic_at_every_boundary(bundle):
    accuracy = bundle.manifest.accuracy
    assert accuracy["judged_by"] == "half arithmetic"
    assert set(accuracy["also"]) == {"ONNX Runtime, as shipped"}
    assert len(accuracy["pictures"]) == 4
    names = [tensor["name"] for tensor in accuracy["tensors"]]
    assert names[-1] == "image_features"
    assert "vision_model.compressors.block_1.residual" in names
    for tensor in accuracy["tensors"]:
        assert 0.999 <= tensor["cosine"] < 1  # really half: FP32 would be 1 to twelve digits
        assert tensor["max_abs"] > 1e-5
        assert abs(tensor["norm_ratio"] - 1) <= 0.01


def test_the_shipped_graph_reproduces_the_golden_features(bundle):
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.file("vision_b1.onnx"))
    prepare = bundle.manifest.image_preprocessing
    with np.load(bundle.file("golden.npz"), allow_pickle=False) as golden:
        for picture, expected in zip(golden["pictures"], golden["image_features"]):
            (features,) = session.run(None, {"pixel_values": prepare.normalize(picture)[None]})
            np.testing.assert_allclose(features[0], expected, atol=0.02 * np.abs(expected).max())


def test_the_graph_file_carries_no_trace_of_where_it_was_made(bundle):
    proto = onnx.load(str(bundle.file("vision_b1.onnx")), load_external_data=False)
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert b".py" not in bundle.file("vision_b1.onnx").read_bytes()


def test_fp32_is_judged_by_onnxruntime(tiny_checkpoint, tmp_path, capsys):
    output = tmp_path / "fp32"
    assert export(tiny_checkpoint, output, "--fp32", "--no-llm", "--no-compile", "--json") == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)  # nothing but the document on stdout
    assert report["output"] == str(output)
    assert report["vision"]["precision"] == "fp32"
    assert report["vision"]["kept_fp32"] == []
    assert report["accuracy"]["judged_by"] == "ONNX Runtime"
    assert report["accuracy"]["tolerance"] == {"cosine": 0.9999995, "norm_drift": 0.001, "max_abs": 0.002}
    assert min(tensor["cosine"] for tensor in report["accuracy"]["tensors"]) > 0.999999
    assert report["seconds"]["compare with PyTorch"] > 0
    assert report["decoder"] is None
    assert "Warning" not in printed.err
    assert "[torch.onnx]" not in printed.err
    open_bundle(output)


@pytest.mark.parametrize(
    ("kind", "options", "tokens"),
    [
        ("siglip", {"grid": (5, 5)}, 9),
        ("internvit", {"at": "1"}, 4),
        ("aimv2", {"method": None}, 16),
    ],
    ids=["padded grid", "CLS, merge at the end", "no merge"],
)
def test_other_encoders_and_depths(make_tiny_model, make_tiny_checkpoint, tmp_path, kind, options, tokens):
    checkpoint = make_tiny_checkpoint(make_tiny_model(kind, **options), tmp_path / "checkpoint")
    assert export(checkpoint, tmp_path / "bundle", "--no-llm", "--no-compile") == 0
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.compression["tokens_after"] == tokens
    assert manifest.vision.graphs[0].output.shape[1] == tokens


@pytest.mark.tensorrt
def test_the_exported_graph_compiles(bundle):
    builder = compile_gate.available()
    if builder is None:
        pytest.skip("needs TensorRT-RTX (pip install tensorrt-rtx), or TensorRT and a GPU")
    built = compile_gate.compile_graph(bundle.file("vision_b1.onnx"), builder)
    assert built["plan_bytes"] > 10_000


@pytest.mark.parametrize("precision", ["--fp16", "--fp32"])
def test_graph_and_tower_are_released_before_the_written_files_run(tiny_checkpoint, tmp_path, monkeypatch, precision):
    """At full size they are another copy of the weights, beside the session's."""
    from laco_export.exporter import tower_export, vision_graph

    trace, judge, traced_graphs, still_there = vision_graph.trace_and_rewrite, tower_export.judge_tower, [], []

    def tracing(*arguments, **options):
        traced = trace(*arguments, **options)
        traced_graphs.append(weakref.ref(traced.graph))
        return traced

    def judging(reference, *arguments):
        still_there.extend(graph for graph in traced_graphs if graph() is not None)
        still_there.extend(weight for weight in reference.tower.parameters() if weight.device.type != "meta")
        return judge(reference, *arguments)

    monkeypatch.setattr(vision_graph, "trace_and_rewrite", tracing)
    monkeypatch.setattr(tower_export, "judge_tower", judging)
    assert export(tiny_checkpoint, tmp_path / "bundle", precision, "--no-llm", "--no-compile") == 0
    assert len(traced_graphs) == 1
    assert still_there == []


def test_given_pictures_are_used_and_named(tiny_checkpoint, tmp_path):
    from PIL import Image

    Image.effect_noise((80, 60), 90).convert("RGB").save(tmp_path / "mine.png")
    output = tmp_path / "bundle"
    images = str(tmp_path / "mine.png")
    assert export(tiny_checkpoint, output, "--fp32", "--no-llm", "--no-compile", "--images", images) == 0
    assert open_bundle(output).manifest.accuracy["pictures"] == ["mine.png"]


def test_a_wrong_rewrite_never_becomes_a_bundle(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    module = import_module("laco_export.exporter.rewrites.merge_windows")
    monkeypatch.setattr(module, "channel_of_position", lambda channels, ratio: np.arange(channels * ratio**2))
    assert export(tiny_checkpoint, tmp_path / "bundle", "--no-llm", "--no-compile") == 1
    message = capsys.readouterr().err
    assert "does not compute what PyTorch computes" in message
    assert "first out of tolerance: vision_model.compressors.block_1" in message
    assert list(tmp_path.iterdir()) == []


_SLOTS = [(slot, pictures, "--fp32", "ONNX Runtime") for slot in range(3) for pictures in (1, 4)]


@pytest.mark.parametrize("slot, pictures, precision, judge", [*_SLOTS, (2, 1, "--bf16", "bfloat16 arithmetic")])
def test_a_batch_that_is_wrong_in_one_slot_never_becomes_a_bundle(
    tiny_checkpoint, tmp_path, monkeypatch, capsys, slot, pictures, precision, judge
):
    import onnx_graphsurgeon as gs
    from PIL import Image

    from laco_export.exporter import vision_graph

    at_batch = vision_graph.at_batch

    def with_a_wrong_slot(graph, batch):
        graph = at_batch(graph, batch)
        last = graph.outputs[0].inputs[0]
        right = gs.Variable("right", np.float32, list(graph.outputs[0].shape))
        last.outputs[0] = right
        factors = gs.Constant("planted", np.where(np.arange(batch) == slot, 1.1, 1).astype(np.float32)[:, None, None])
        graph.nodes.append(gs.Node("Mul", "planted", {}, [right, factors], [graph.outputs[0]]))
        return graph

    monkeypatch.setattr(vision_graph, "at_batch", with_a_wrong_slot)
    Image.effect_noise((80, 60), 90).convert("RGB").save(tmp_path / "mine.png")
    options = ["--images", str(tmp_path / "mine.png")] if pictures == 1 else []
    command = [precision, "--no-llm", "--no-compile", "--batch", "3", *options]
    assert export(tiny_checkpoint, tmp_path / "bundle", *command) == 1
    assert f"judged by {judge}, vision_b3.onnx" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_naive_half_cast_never_becomes_a_bundle(make_tiny_model, make_tiny_checkpoint, tmp_path, monkeypatch, capsys):
    import torch

    from laco_export.exporter import islands, precision

    model = make_tiny_model()
    down = model.vision_model.encoder.encoder.layers[0].ffn.down_proj
    with torch.no_grad():
        down.weight.mul_(60000 / down.weight.abs().max())  # the weights fit into half, what they make does not
    checkpoint = make_tiny_checkpoint(model, tmp_path / "outliers")
    assert export(checkpoint, tmp_path / "careful", "--no-llm", "--no-compile") == 0
    manifest = open_bundle(tmp_path / "careful").manifest
    reasons = {island["node"]: island["reason"] for island in manifest.vision.kept_fp32}
    reason = next(reason for node, reason in reasons.items() if node.endswith("layers.0.ffn.down_proj/MatMul"))
    assert float(reason.partition("reaches ")[2].partition(",")[0]) > 65504
    assert min(tensor["cosine"] for tensor in manifest.accuracy["tensors"]) >= 0.999

    monkeypatch.setattr(precision, "choose_fp32", lambda *_: {})
    monkeypatch.setattr(islands, "MAX_RETRIES", 0)
    assert export(checkpoint, tmp_path / "naive", "--no-llm", "--no-compile") == 1
    message = capsys.readouterr().err
    assert "judged by half arithmetic" in message
    assert not (tmp_path / "naive").exists()


def test_bfloat16_is_judged_in_its_own_arithmetic(tiny_checkpoint, tmp_path, capsys):
    from laco_engines.cli import main as engine

    output = tmp_path / "bf16"
    assert export(tiny_checkpoint, output, "--bf16", "--batch", "3", "--no-llm", "--no-compile") == 0
    manifest = open_bundle(output).manifest
    others = manifest.accuracy["also"]
    assert others["bfloat16 arithmetic, vision_b3.onnx"][0]["cosine"] >= 0.999
    assert manifest.vision.precision == "bf16"
    assert manifest.accuracy["judged_by"] == "bfloat16 arithmetic"
    assert any("no bfloat16 kernels" in note for note in manifest.notes)
    assert any("takes no bfloat16" in island["reason"] for island in manifest.vision.kept_fp32)
    worst = min(tensor["cosine"] for tensor in manifest.accuracy["tensors"])
    assert 0.999 <= worst < 0.99999  # coarser than half
    proto = onnx.load(str(output / "vision_b1.onnx"), load_external_data=False)
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    assert onnx.TensorProto.BFLOAT16 in kinds
    assert onnx.TensorProto.FLOAT16 not in kinds
    capsys.readouterr()
    assert engine(["diff", str(output)]) == 1  # ONNX Runtime cannot run it: said in a line, not as a traceback
    assert "error: " in capsys.readouterr().err


def test_bisect_reports_and_plots_where_the_comparison_fails(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    module = import_module("laco_export.exporter.rewrites.merge_windows")
    monkeypatch.setattr(module, "channel_of_position", lambda channels, ratio: np.arange(channels * ratio**2))
    assert export(tiny_checkpoint, tmp_path / "bundle", "--no-llm", "--no-compile", "--bisect") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.bisect.json", "bundle.bisect.png"]
    report = json.loads((tmp_path / "bundle.bisect.json").read_text())
    assert report["first_drifting"] == "vision_model.compressors.block_1"
    assert set(report["runs"]) == {
        "the rewritten graph in FP32, block by block",
        "half arithmetic, block by block",
        "half arithmetic",
        "ONNX Runtime, boundaries marked",
    }
    printed = capsys.readouterr().err
    assert "the first block that drifts is vision_model.compressors.block_1" in printed
    assert "does not fuse across them" in printed
    assert "does not compute what PyTorch computes" in printed


def test_the_report_of_a_bundle_goes_when_the_bundle_is_replaced(tiny_checkpoint, tmp_path):
    for flags, left in (
        (["--bisect"], ["bundle", "bundle.bisect.json", "bundle.bisect.png"]),
        (["--force", "--bisect"], ["bundle", "bundle.bisect.json", "bundle.bisect.png"]),
        (["--force"], ["bundle"]),
    ):
        assert export(tiny_checkpoint, tmp_path / "bundle", "--no-llm", "--no-compile", *flags) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_drift_that_ranges_cannot_foresee_widens_the_islands(tiny_checkpoint, tmp_path, monkeypatch):
    """Without the rules and the ranges' islands a strict gate fails, and the blocks that drift become FP32."""
    from dataclasses import replace

    from laco_export.exporter import boundaries

    strict = replace(boundaries.STRICTNESS["fp16"], tensor=boundaries.Tolerance(1 - 3e-7, 1e-2, 0.1))
    monkeypatch.setitem(boundaries.STRICTNESS, "fp16", strict)
    code = export(tiny_checkpoint, tmp_path / "bundle", "--no-llm", "--no-compile")
    manifest = open_bundle(tmp_path / "bundle").manifest if code == 0 else None
    assert manifest is not None
    assert any(
        "was converted again with the blocks around it in FP32 (retry 1 of 3)" in note for note in manifest.notes
    )
    assert any(island["reason"].startswith("rounding added up") for island in manifest.vision.kept_fp32)
