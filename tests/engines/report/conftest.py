"""Subjects that no model stands behind: what the report makes of answers and times."""

from pathlib import Path

import pytest

from laco_engines.answering import Answer, Timings
from laco_engines.asked_question import AskedQuestion
from laco_engines.report.asking import AskedSubject, GivenAnswer
from laco_engines.report.subjects import ReportSubject
from laco_export.bundle import Bundle, Decoder, Manifest, TensorSpec, Vision, VisionGraph
from laco_export.embedding_table import EmbeddingStorage, StoredTensor
from laco_export.preprocessing import ImagePreprocessing
from laco_export.timing import TimedRun

COMPARED = [
    {"name": "vision_model.encoder.layer.0", "cosine": 0.9999, "norm_ratio": 1.01, "max_abs": 0.1},
    {"name": "vision_model.compressors.block_1", "cosine": 1.0, "norm_ratio": 0.75, "max_abs": 0.1},
    {"name": "image_features", "cosine": None, "norm_ratio": None, "max_abs": None},
]


def _manifest(**changes):
    pixels = TensorSpec("pixel_values", "float32", (1, 3, 28, 28))
    graph = VisionGraph("vision_b1.onnx", 1, pixels, TensorSpec("image_features", "float32", (1, 4, 8)))
    rows = StoredTensor("llm/model.onnx_data", 0, "float32", (264, 8))
    decoder = Decoder(
        "llm", "llm/model.onnx", EmbeddingStorage(rows, 8, True), "qwen2", "fp32", 8, 264, 512, 262, [258]
    )
    names = ("vision_b1.onnx", "vision.data", "llm/model.onnx", "llm/model.onnx_data", "golden.npz")
    fields = {
        "tool_version": "0.1.0",
        "libraries": {"onnx": "1.2.3"},
        "source": {"name": "tiny", "sha256": "ab" * 32},
        "encoder": {"model_type": "aimv2_vision_model", "hidden_size": 16, "num_blocks": 4, "patch_size": 14},
        "compression": {
            "method": "laco", "depth": "1/2", "block": 2, "ratio": 2, "tokens_before": 16, "tokens_after": 4,
        },
        "vision": Vision([graph], "vision.data", 20, 10, "fp16", token_grid=(2, 2)),
        "preprocessing": ImagePreprocessing(28, 28, "squash", (0.5,) * 3, (0.5,) * 3).to_dict(),
        "golden": "golden.npz",
        "accuracy": {"tensors": COMPARED, "judged_by": "half arithmetic", "pictures": ["a", "b"]},
        "decoder": decoder,
        "notes": ["the graph was not compiled"],
        "files": {name: {"sha256": f"{place:064x}", "bytes": 1000 + place} for place, name in enumerate(names)},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


@pytest.fixture
def make_manifest():
    """``make_manifest(**changes)``"""
    return _manifest


@pytest.fixture
def make_subject():
    """``make_subject(name, **manifest_changes)``"""

    def make(name, **changes):
        bundle = Bundle(Path(name), _manifest(**changes))
        return ReportSubject(name, bundle, bundle)

    return make


@pytest.fixture
def make_answer():
    """``make_answer(text, ids, encode_ms=, rate=)``: 1 ms of preparing, 4 ms of prefill, 20 tokens of a prompt."""

    def make(text, ids=None, *, encode_ms=2.0, rate=100.0, tiles=1):
        ids = ids if ids is not None else [ord(letter) for letter in text]
        timings = Timings(10.0, 1.0, encode_ms, 4.0, rate if len(ids) > 1 else None)
        return GivenAnswer(Answer(text, ids, 20, "stop", timings), tiles)

    return make


@pytest.fixture
def make_asked(make_subject, make_answer):
    """``make_asked(name, texts, repeated=())``: a subject that gave these answers; an error stands for itself."""

    def make(name, texts, repeated=(), cpu_ratios=None, **changes):
        as_records = lambda values: [make_answer(value) if isinstance(value, str) else value for value in values]
        asked = AskedSubject(make_subject(name, **changes), "ONNX Runtime", "lean", [], True, True)
        asked.answers, asked.repeated = as_records(texts), as_records(repeated)
        given = sum(isinstance(record, GivenAnswer) for record in asked.answers)
        asked.series.samples = [TimedRun(9.0, ratio) for ratio in cpu_ratios or [1.0] * given]
        return asked

    return make


@pytest.fixture
def make_questions():
    """``make_questions(*truths)``: a question a truth, each about a picture of its own."""

    def make(*truths):
        return [
            AskedQuestion(f"q{place}", (Path(f"{place}.png"),), (f"{place}.png",), f"Which, {place}?", truth, "letter")
            for place, truth in enumerate(truths)
        ]

    return make
