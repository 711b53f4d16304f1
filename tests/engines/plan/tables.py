"""Bundles that are manifests alone, and figures of them from a table: a space whose true best is known."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from laco_engines.plan.figures import BOUNDED, MEASURED, Figure
from laco_engines.plan.floors import TextFloor
from laco_engines.plan.limits import Limits, Quantity, TextFigures
from laco_engines.plan.search import ANSWERS, Search
from laco_engines.plan.space import Candidate, Model
from laco_engines.plan.verdict import DeploymentPlan
from laco_export.bundle import Bundle, Decoder, Manifest, TensorSpec, Vision, VisionGraph
from laco_export.embedding_table import EmbeddingStorage, StoredTensor

GFLOP = 10**9


def model(name, *, precision="fp16", gflop=100, llm="int4", batches=(1,), depth="1/2", target="trt10.3", **vision):
    """A :class:`Model` over files that do not exist; models of one ``llm`` share it."""
    graphs = [
        VisionGraph(
            f"vision_b{batch}.onnx",
            batch,
            TensorSpec("pixel_values", "float32", (batch, 3, 28, 28)),
            TensorSpec("image_features", "float32", (batch, 4, 8)),
        )
        for batch in batches
    ]
    rows = StoredTensor("llm/model.onnx_data", 0, "float32", (10, 8))
    decoder = None
    if llm is not None:
        decoder = Decoder("llm", "llm/model.onnx", EmbeddingStorage(rows, 8, True), "qwen2", llm, 8, 10, 64, 3, [2])
    files = {graph.file: f"{name} {graph.file}" for graph in graphs} | {"vision.data": f"{name} weights"}
    files |= {"llm/model.onnx": f"{llm} graph", "llm/model.onnx_data": f"{llm} data"}
    manifest = Manifest(
        tool_version="0.1.0",
        libraries={},
        source={"name": "checkpoint", "sha256": "ab" * 32},
        encoder={"model_type": "aimv2_vision_model", "hidden_size": 16, "num_blocks": 4},
        compression={"method": "laco", "depth": depth, "block": 2, "ratio": 2, "tokens_before": 16, "tokens_after": 4},
        vision=Vision(
            graphs,
            "vision.data",
            20,
            10,
            precision,
            target=target,
            token_grid=(2, 2),
            flops={"total": gflop * GFLOP, "ratio_to_1": 1.0},
            **vision,
        ),
        preprocessing={},
        golden="golden.npz",
        accuracy={},
        decoder=decoder,
        files={
            file: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": 1000} for file, text in files.items()
        },
    )
    return Model(name, depth, Bundle(Path(name), manifest))


def gflop_of(each):
    """Of one picture."""
    return each.bundle.manifest.vision.flops["total"] // GFLOP


def space(models, *, threads=(1,), tiles=1):
    """All ways to run the models."""
    return [
        Candidate(each, batch, count, tiles)
        for each in models
        for batch in sorted(each.graphs)
        if batch <= tiles or batch == min(each.graphs)
        for count in threads
    ]


@dataclass
class TableGauge:
    """True figures, told when they are measured.

    Attributes:
        encode_ms: of a candidate.
        counted: operations by type.
        floor: the share of its true time that a candidate's floor is.
        prefill_ms, token_ms: of the language model.
        bytes_of: at the peak.
        measured, weighed: the candidates, in order.
    """

    encode_ms: object
    prefill_ms: object = lambda candidate: 0.0
    token_ms: object = lambda candidate: 0.0
    bytes_of: object = lambda candidate: 1.0
    floor: object = lambda candidate: 0.5
    counted: object = lambda candidate: {candidate.model.precision: gflop_of(candidate.model)}
    pictures: int = 1
    measured: list = field(default_factory=list)
    weighed: list = field(default_factory=list)
    costs_nothing = False

    @property
    def taken(self):
        return len(self.measured)

    def vision_floor_ms(self, candidate):
        return self.floor(candidate) * self.encode_ms(candidate)

    def text_floor(self, candidate):
        share = self.floor(candidate)
        return TextFloor(share * self.prefill_ms(candidate), share * self.token_ms(candidate))

    def operations(self, candidate):
        return self.counted(candidate)

    def recorded(self, candidate):
        return None, None

    def measure(self, candidate, *, encode, text):
        self.measured.append(candidate)
        exact = lambda value: Figure.exact(value, MEASURED)
        parts = (0.0, self.prefill_ms(candidate), self.token_ms(candidate))
        return exact(self.encode_ms(candidate)), TextFigures(*map(exact, parts)) if text else None

    def memory(self, candidate):
        self.weighed.append(candidate)
        return Figure.exact(self.bytes_of(candidate), MEASURED)

    def memory_guess(self, candidate):
        return Figure(1.0, 0.0, float("inf"), frozenset({BOUNDED}))


@dataclass
class TableQuality:
    """Points lost by a model's name; all but the reference's are told when they are asked for.

    Attributes:
        known: points are known without asking.
        questions: the models that were asked, in order.
    """

    reference: Model
    points: dict
    known: bool = False
    questions: list = field(default_factory=list)
    title = "a table"

    @property
    def asked(self):
        return len(self.questions)

    def check(self):
        pass

    def can_tell(self, asked):
        return asked.name in self.points

    def recorded(self, asked):
        free = self.known or asked is self.reference or asked in self.questions
        return Figure.exact(self.points[asked.name], MEASURED) if free else None

    def drop(self, asked):
        self.questions.append(asked)
        return Figure.exact(self.points[asked.name], MEASURED)


def planned(models, *, budget=150, tiles=1, elsewhere=None, **gauge):
    """A plan by a table: a millisecond a GFLOP, and half a point more for each further model."""
    points = {each.name: 0.5 * index for index, each in enumerate(models)}
    gauge = TableGauge(lambda each: sum(each.runs) * gflop_of(each.model), **gauge)
    search = Search(
        space(models, tiles=tiles),
        Quantity("encode"),
        Limits(budget),
        gauge,
        TableQuality(models[0], points, known=True),
        ANSWERS,
    )
    assessed = search.run()
    choice = search.best(assessed)
    return DeploymentPlan(
        quantity=Quantity("encode"),
        limits=Limits(budget),
        prefer=ANSWERS,
        device="a device",
        elsewhere=elsewhere,
        quality="a table",
        choice=choice,
        failing=search.better(assessed, choice),
        assessed=assessed,
        measured=gauge.taken,
        asked=0,
    )
