"""An elastic checkpoint of paths of merges, exported by path: proof, ONNX Runtime, and faults in either merge."""

import json
from importlib import import_module

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from laco_engines.cli import main as engine
from laco_export.bundle import open_bundle
from laco_export.cli import main
from laco_export.errors import ExportError
from laco_export.exporter.proof import REWRITTEN, Reference, prove_rewrites
from laco_export.exporter.rewrites import apply_rewrites
from laco_export.exporter.witnesses.merged_windows import check_merged_windows
from laco_export.field_types import FieldError
from laco_export.manifest_agreement import read_fields
from laco_export.merge_path import MergePath
from laco_export.models import checkpoint
from laco_export.models.flops import vision_flops
from laco_export.summary import summary_lines

FIRST, SECOND = (f"vision_model.compressors.path_1_2.block_{block}" for block in (1, 2))
PATH = {"blocks": 2, "grid": (9, 9), "at": "1/2+1", "ratio": "2+3"}
"""9 x 9 tokens become 5 x 5 and, behind the final norm, 2 x 2: padded at each merge."""


@pytest.fixture(scope="module")
def elastic(make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    """InternViT (CLS goes around both merges) with a path of two merges and one of one, and as many tokens by each."""
    options = {"at": ["1/2", "1/3+2/3"], "ratio": [4, 2], "blocks": 3, "grid": (7, 7)}
    model = make_tiny_model("internvit", **options)
    return make_tiny_checkpoint(model, tmp_path_factory.mktemp("checkpoints") / "elastic")


@pytest.fixture(scope="module")
def exported(elastic, tmp_path_factory):
    """The path of two, which is not the checkpoint's first, as an FP16 bundle for one picture and for two."""
    output = tmp_path_factory.mktemp("bundles") / "two"
    options = ["--at", "1/3+2/3", "--batch", "1", "2", "--no-llm", "--no-compile", "--output", str(output)]
    assert main(["--model", str(elastic), *options]) == 0
    return open_bundle(output)


def test_the_manifest_names_each_merge(exported, elastic):
    manifest = exported.manifest
    assert manifest.compression == {
        "method": "laco",
        "depth": "1/3+2/3",
        "block": 1,
        "ratio": 4,
        "tokens_before": 49,
        "tokens_after": 4,
        "merges": [{"block": 1, "ratio": 2, "tokens_after": 16}, {"block": 2, "ratio": 2, "tokens_after": 4}],
    }
    fired = {record["name"]: record["fired"] for record in manifest.vision.rewrites}
    assert (fired["merge_windows"], fired["average_residual"]) == (2, 2)
    config = checkpoint.read_config(elastic)
    at_the_end = vision_flops(config, path=MergePath((3, 3), (2, 2))).total
    assert manifest.vision.flops["ratio_to_1"] == manifest.vision.flops["total"] / at_the_end < 1
    lines = dict(summary_lines(manifest))
    assert lines["merge"] == "laco @1/3+2/3 (2 x 2 after block 1, 2 x 2 after block 2), 49 → 16 → 4 tokens"


def test_the_proof_covers_both_merges_and_both_batches(exported):
    accuracy = exported.manifest.accuracy
    names = [tensor["name"] for tensor in accuracy["tensors"]]
    for merge in (FIRST, SECOND):
        assert names.index(f"{merge}.residual") + 1 == names.index(merge)
        assert f"{merge} minus the residual" in [tensor["name"] for tensor in accuracy["branches"]]
    assert set(accuracy["also"]) == {"ONNX Runtime, as shipped", "ONNX Runtime, vision_b2.onnx"}
    (merged,) = [check for check in accuracy["witnesses"] if check["watched"] == "merged tokens"]
    assert merged["cases"] == 2 * len(accuracy["pictures"])


def test_an_engine_says_and_times_each_merge(exported, capsys):
    folder = str(exported.path)
    assert engine(["inspect", folder]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "merges [block 1, ratio 2, tokens_after 16; block 2, ratio 2, tokens_after 4]" in said
    assert engine(["bench", folder, "--repeats", "1", "--warmup", "0", "--no-memory", "--json"]) == 0
    (one_picture, *_) = json.loads(capsys.readouterr().out)["encode"]
    assert one_picture["depths"] == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ratio": 6}, "compression.ratio"),
        ({"block": 3}, "compression.block"),
        ({"merges": [{"block": 3, "ratio": 2, "tokens_after": 4}] * 2}, "blocks that rise"),
        ({"merges": []}, "a list of 2"),
    ],
)
def test_a_manifest_whose_merges_disagree_is_refused(exported, changes, named):
    document = json.loads((exported.path / "laco.json").read_text())
    read_fields(document)
    document["compression"].update(changes)
    with pytest.raises(FieldError, match=named):
        read_fields(document)


def test_a_path_that_is_not_carried_lists_those_that_are(elastic, tmp_path, capsys):
    options = ["--at", "1/3+1", "--no-llm", "--output", str(tmp_path / "out")]
    assert main(["--model", str(elastic), *options]) == 2
    assert "1/2 (block:2), 1/3+2/3 (block:1+block:2)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def traced(trace):
    return trace(**PATH)


def test_the_rewritten_graph_is_pytorchs(traced, differences):
    fired = {record["name"]: record["fired"] for record in apply_rewrites(traced.graph, traced.merges)}
    assert (fired["merge_windows"], fired["average_residual"]) == (2, 2)
    assert differences(traced) == []


def first_out_of_tolerance(traced) -> str:
    proof = prove_rewrites(Reference.of(traced.tower, [traced.pixels]), traced.graph)
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        proof.require()
    return next(tensor.name for tensor in proof.agreements[REWRITTEN] if not tensor.within())


@pytest.mark.parametrize(("merge", "ratio"), [(FIRST, 2), (SECOND, 3)])
def test_the_proof_names_the_merge_with_the_fault(traced, monkeypatch, merge, ratio):
    """The norm and the Linear of one of the merges keep PyTorch's order of channels."""
    module = import_module("laco_export.exporter.rewrites.merge_windows")
    right = module.channel_of_position
    wrong = lambda channels, r: np.arange(channels * r * r) if r == ratio else right(channels, r)
    monkeypatch.setattr(module, "channel_of_position", wrong)
    apply_rewrites(traced.graph, traced.merges)
    assert first_out_of_tolerance(traced).startswith(merge)


@pytest.mark.parametrize("merge", [FIRST, SECOND])
def test_the_proof_names_the_merge_without_its_residual(traced, merge):
    apply_rewrites(traced.graph, traced.merges)
    add = next(node for node in traced.graph.nodes if node.op == "Add" and node.name.startswith(f"{merge}/"))
    branch = next(tensor for tensor in add.inputs if ".mlp" in tensor.inputs[0].name)
    add.inputs = [branch, gs.Constant("planted", np.zeros(1, np.float32))]
    assert first_out_of_tolerance(traced).startswith(merge)


@pytest.mark.parametrize(("merge", "ratio"), [(FIRST, 2), (SECOND, 3)])
def test_a_fault_of_pytorchs_own_merge_is_told_by_the_definition(traced, monkeypatch, merge, ratio):
    patch_merge = import_module("laco_export.models.compressors.patch_merge")
    right = patch_merge.space_to_channel
    wrong = lambda grid, r: right(grid.transpose(1, 2) if r == ratio else grid, r)
    monkeypatch.setattr(patch_merge, "space_to_channel", wrong)
    reference = Reference.of(traced.tower, [traced.pixels])
    with pytest.raises(ExportError) as refused:
        check_merged_windows(traced.tower, reference.expected)
    assert f"picture 1, {merge}" in str(refused.value)
