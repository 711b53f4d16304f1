"""Faults planted one at a time into a bundle: each is found where it is, and nothing is found elsewhere."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from laco_engines.attribution.attributing import RUNTIME
from laco_engines.attribution.shares import REST, TOTAL
from laco_engines.attribution.switched_bundle import MODEL, PREPROCESSING, VOCABULARY
from laco_engines.runtimes import OnnxRuntimeVision
from laco_export.bundle import open_bundle

BEFORE, MERGE, AFTER, PROJECTOR = "tower before the merge", "merge", "tower after the merge", "projector"
PARTS = [PREPROCESSING, BEFORE, MERGE, AFTER, PROJECTOR, MODEL, VOCABULARY, RUNTIME]
ROUNDING = 1e-4
"""Of a float32 tower in segments beside the same tower in one, and of passes over a prompt: 1e-6 was seen."""


def weights_of(model, module):
    """Matrices that a module's nodes multiply with: ``(node, initializer)``."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if module in node.name:
            for name in node.input:
                if node.op_type in ("MatMul", "Gemm", "FusedMatMul") and name in stored and len(stored[name].dims) > 1:
                    yield node, stored[name]


def scaled(module, factor):
    """An edit of a graph: a module's weights times a factor."""

    def edit(model):
        for _, tensor in (matrices := list(weights_of(model, module))):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
        assert matrices, f"no weights of {module}"

    return edit


def of_eight_bits(wrong_block=None):
    """An edit of a graph: every block's weights in INT8 by column, one block's scales 1.25 times too large."""

    def edit(model):
        for layer in range(4):
            for node, tensor in list(weights_of(model, f"layers.{layer}")):
                weights = numpy_helper.to_array(tensor)  # [in, out]
                scale = (np.abs(weights).max(0) / 127).astype(np.float32)
                numbers = np.rint(weights / scale).astype(np.int8)
                scale *= np.float32(1.25 if f"layers.{layer}" == wrong_block else 1.0)
                names = [f"{tensor.name}_{suffix}" for suffix in ("int8", "scale", "zero", "dequantised")]
                zeros = np.zeros(len(scale), np.int8)
                for name, values in zip(names, (numbers, scale, zeros)):
                    model.graph.initializer.append(numpy_helper.from_array(values, name))
                dequantise = onnx.helper.make_node("DequantizeLinear", names[:3], names[3:], axis=1)
                model.graph.node.insert(0, dequantise)
                node.input[list(node.input).index(tensor.name)] = names[3]

    return edit


def in_half(without_island=None):
    """An edit of a graph: FP16 with the norms' statistics in FP32, but in one block."""

    def edit(model):
        import onnx_graphsurgeon as gs

        from laco_export.exporter.half_conversion import convert_to_half
        from laco_export.exporter.precision import choose_fp32

        graph = gs.import_onnx(model)
        islands = choose_fp32(graph, {})
        kept_fp32 = {name for name in islands if without_island is None or without_island not in name}
        assert (kept_fp32 != islands.keys()) == (without_island is not None)
        convert_to_half(graph, kept_fp32)
        model.CopyFrom(gs.export_onnx(graph))

    return edit


def without(tokens):
    """An edit of a decoder: these tokens have no row, so that their logits are -inf."""

    def edit(model):
        output = next(value for value in model.graph.output if value.name == "logits")
        vocabulary = output.type.tensor_type.shape.dim[-1].dim_value or 264
        allowed = np.zeros(vocabulary, np.float32)
        allowed[list(tokens)] = -np.inf
        model.graph.initializer.append(numpy_helper.from_array(allowed, "left_out"))
        for node in model.graph.node:
            node.output[:] = ["all_logits" if name == "logits" else name for name in node.output]
        model.graph.node.append(onnx.helper.make_node("Add", ["all_logits", "left_out"], ["logits"]))

    return edit


def assert_adds_up(drift):
    *parts, rest, total = drift.rows
    assert [row.part for row in parts][-1] == RUNTIME and (rest.part, total.part) == (REST, TOTAL)
    assert np.sum([row.share for row in (*parts, rest)], 0) == pytest.approx(total.share, abs=1e-9)


def assert_caused_by(part, drift, rows, *, in_features=True):
    """The part lost something, and what the others lost is rounding."""
    assert_adds_up(drift)
    assert rows[part].share.logprob > 0.01
    assert rows[part].share.logprob == pytest.approx(rows[TOTAL].share.logprob, rel=0.01)
    if in_features:
        assert rows[part].share.squared_error == pytest.approx(rows[TOTAL].share.squared_error, rel=0.01)
        assert rows[part].alone.feature_error > 0.01
    for other in {*rows} - {part, TOTAL}:
        assert np.abs(rows[other].share).max() < ROUNDING, other
    assert drift.changed, "a fault that changes no answer tests nothing"
    assert {answer.cause for answer in drift.changed} == {part}


def test_a_bundle_beside_itself_has_lost_nothing(bundle_folder, attributed):
    drift, rows = attributed(bundle_folder)
    assert list(rows) == [*PARTS, REST, TOTAL]
    assert_adds_up(drift)
    assert np.abs([row.share for row in drift.rows]).max() < ROUNDING
    assert (drift.changed, drift.asked, drift.remarks) == ([], 4, [])


def test_a_wrong_mean(planted, bundle, attributed):
    wrong = {**bundle.manifest.preprocessing, "image_mean": [0.9, 0.1, 0.6]}
    assert_caused_by(PREPROCESSING, *attributed(planted("mean", preprocessing=wrong)))


@pytest.fixture
def loud(planted):
    """The bundle with blocks that change what they are given by more than random weights would, and its folder."""
    folder = planted("loud", graph=scaled("layers.", 6))
    return open_bundle(folder), folder


@pytest.mark.parametrize(
    ("module", "part"),
    [("layers.1", BEFORE), ("compressors.block_2", MERGE), ("layers.3", AFTER), ("projector.linear_2", PROJECTOR)],
)
def test_a_wrong_block(planted, loud, attributed, module, part):
    reference, folder = loud
    wrong = planted("block", source=folder, graph=scaled(module, -1.5))
    assert_caused_by(part, *attributed(wrong, reference))


def test_each_block_can_be_a_part(planted, loud, attributed):
    reference, folder = loud
    wrong = planted("block", source=folder, graph=scaled("layers.2", 1.5))
    drift, rows = attributed(wrong, reference, each_block=True)
    blocks = [f"encoder.encoder.layers.{layer}" for layer in range(4)]
    assert [part for part in rows if part in blocks] == blocks
    assert_caused_by(blocks[2], drift, rows)


def test_a_wrong_scale_of_one_block_in_eight_bits(planted, loud, attributed):
    reference, folder = loud
    drift, rows = attributed(planted("w8", source=folder, graph=of_eight_bits("layers.3")), reference)
    _, right = attributed(planted("w8_right", source=folder, graph=of_eight_bits()), reference)
    assert_adds_up(drift)
    assert rows[AFTER].share.squared_error > 0.95 * rows[TOTAL].share.squared_error
    assert abs(rows[REST].share.squared_error) < 0.05 * rows[TOTAL].share.squared_error
    assert rows[AFTER].alone.feature_error > 10 * right[AFTER].alone.feature_error
    assert rows[BEFORE].alone == right[BEFORE].alone
    assert rows[BEFORE].alone.feature_error > 1e-3, "eight bits cost something where they are right, too"
    assert {answer.cause for answer in drift.changed} == {AFTER}


def test_an_island_against_overflow_cut_out_of_half(planted, attributed):
    louder = [scaled("layers.2.ffn.down_proj", 3e5), scaled("layers.3.attention.out_proj", 3e4)]
    loud = planted("loud", graph=lambda model: [edit(model) for edit in louder])
    reference = open_bundle(loud)  # block 2's output reaches 700, whose square half does not hold
    vision = dataclasses.replace(reference.manifest.vision, precision="fp16")
    right, right_rows = attributed(planted("half", source=loud, graph=in_half(), vision=vision), reference)
    drift, rows = attributed(planted("cut", source=loud, graph=in_half("layers.3"), vision=vision), reference)
    assert right_rows[TOTAL].share.feature_error < 0.01
    assert drift.judged_by == right.judged_by == "half arithmetic"
    assert "real half arithmetic" in drift.remarks[0] and RUNTIME not in rows
    assert np.sum([row.share for row in drift.rows[:-1]], 0) == pytest.approx(rows[TOTAL].share, abs=1e-9)
    assert rows[TOTAL].share.feature_error > 0.1
    assert rows[AFTER].share.squared_error == pytest.approx(rows[TOTAL].share.squared_error, rel=0.02)
    for part in {*rows} - {AFTER, TOTAL}:
        assert abs(rows[part].share.squared_error) < 0.02 * rows[TOTAL].share.squared_error, part
    assert {answer.cause for answer in drift.changed} == {AFTER}


def test_a_wrong_language_model(planted, attributed):
    wrong = planted("model", decoder=scaled("layers.0/mlp/down_proj", 1.5))
    assert_caused_by(MODEL, *attributed(wrong), in_features=False)


def test_a_vocabulary_without_the_tokens_of_an_answer(planted, attributed):
    folder = planted("vocabulary", decoder=without(range(0, 264, 2)))
    assert_caused_by(VOCABULARY, *attributed(folder), in_features=False)


def test_a_runtime_that_computes_something_else(bundle_folder, attributed, monkeypatch):
    encode = OnnxRuntimeVision.encode
    monkeypatch.setattr(OnnxRuntimeVision, "encode", lambda runtime, pixels: -encode(runtime, pixels))
    assert_caused_by(RUNTIME, *attributed(bundle_folder))
