"""The finished graph against what it came from: on the judging pictures, and on the bundle's golden ones.

A graph for ONNX Runtime's CPU is judged by ONNX Runtime. A half-precision one is judged node by node in half
arithmetic, which ONNX Runtime's CPU provider does not have; on the golden pictures by ONNX Runtime too, as
``laco-engine diff`` does on a machine without a GPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from laco_engines.comparison.golden_check import pixel_values
from laco_engines.runtimes import OnnxRuntimeVision
from laco_export.agreement import Agreement, Tolerance, agreement
from laco_export.agreement import worst_of as worst_agreement
from laco_export.bundle import IMAGE_FEATURES, PIXEL_VALUES, Bundle, Vision, sha256_of
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.exporter.interpreter import GraphInterpreter
from laco_export.exporter.runners import interpreted_features, onnxruntime_features
from laco_export.golden import read_golden
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet

from .blocks.block_errors import FeatureError, feature_error, worst_error
from .observation import Observation, SmoothedGraph
from .quantizing import Placement
from .quantizing.written_numbers import check_written


def judge_graph(
    path: Path,
    pictures: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    half: bool,
    answer_share: Callable[[int, np.ndarray], float] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> FeatureError:
    """The shipped file's ``image_features`` on ``pictures [1, 3, H, W]`` against FP32's.

    Args:
        answer_share: as :class:`~.blocks.block_errors.BlockJudge` takes it.
    """
    with quiet():
        run = interpreted_features(path) if half else onnxruntime_features(path)
    errors = []
    for index, (picture, fp32_features) in enumerate(zip(pictures, expected, strict=True)):
        features = run(picture)
        error = feature_error(fp32_features, features)
        errors.append(error if answer_share is None else replace(error, agreement=answer_share(index, features)))
        advance()
    return worst_error(errors)


def check_numbers(path: Path, smoothed: SmoothedGraph, observation: Observation, placement: Placement) -> None:
    """Hold the numbers in a written graph to what was chosen (:mod:`.quantizing.written_numbers`).

    Raises:
        CalibrationError: one of them is another.
    """
    histograms = {name: tensor.histogram for name, tensor in observation.statistics.tensors.items()}
    seen = {name: (histogram.low, histogram.high) for name, histogram in histograms.items()}
    with quiet():
        check_written(graph_from_file(path), smoothed.graph, placement, seen)


@contextmanager
def _running(
    graph: gs.Graph, names: Sequence[str], ir_version: int, *, half: bool
) -> Iterator[Callable[[np.ndarray], list]]:
    """``run(pixel_values [1, 3, H, W])``: the values of the tensors ``names``, which are among the outputs."""
    if half:
        interpreter = GraphInterpreter(graph)

        def run(pixel_values: np.ndarray) -> list[np.ndarray]:
            values = interpreter.run({PIXEL_VALUES: pixel_values}, names)
            return [np.asarray(values[name], np.float32) for name in names]

        yield run
        return
    with tempfile.TemporaryDirectory(prefix="laco-calibrate-") as folder:
        with WeightFile(Path(folder) / "judged.data") as weights:
            write_graph(graph, Path(folder) / "judged.onnx", weights, ir_version=ir_version)
        session = open_session(Path(folder) / "judged.onnx")
        yield lambda pixel_values: session.run(list(names), {PIXEL_VALUES: pixel_values})


def golden_features(bundle: Bundle, folder: Path, vision: Vision) -> dict[str, Agreement]:
    """What ``laco-engine diff`` will find on ONNX Runtime's CPU provider: golden picture → its features against
    PyTorch's.

    Args:
        bundle: with the golden pictures.
        folder, vision: the graphs, and the manifest's record of them.
    """
    golden = read_golden(bundle)
    read = {*(graph.file for graph in vision.graphs), vision.weights}
    files = {name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in read}
    made = Bundle(folder, replace(bundle.manifest, vision=vision, files=files))
    with quiet():
        runtime = OnnxRuntimeVision(made, provider="cpu")
        computed = runtime.encode(pixel_values(bundle, golden.pictures))
    rows = zip(golden.names, golden.image_features, computed, strict=True)
    return {name: agreement(IMAGE_FEATURES, *pair) for name, *pair in rows}


def points_of(features: Agreement) -> float:
    """As :attr:`~.blocks.block_errors.FeatureError.points`."""
    return FeatureError(features.cosine, features.norm_ratio).points


@dataclass(frozen=True)
class GoldenJudgement:
    """A quantised graph on the golden pictures.

    Attributes:
        proof: the manifest's record of every boundary.
        proved: ``image_features`` by the proof's arithmetic, the worst of each number.
        shipped: picture → its features by ONNX Runtime, as shipped.
    """

    proof: dict
    proved: Agreement
    shipped: dict[str, Agreement]

    @property
    def points(self) -> float:
        """As :attr:`~.blocks.block_errors.FeatureError.points`, of the worse arithmetic."""
        return max(points_of(measured) for measured in (self.proved, *self.shipped.values()))

    @property
    def worst_picture(self) -> str:
        """The name of the one that loses most points."""
        return max(self.shipped, key=lambda name: points_of(self.shipped[name]))

    def share_used(self, tolerance: Tolerance) -> float:
        """Of what ``laco-engine diff`` will allow; above 1 where it will fail."""
        return max(measured.share_used(tolerance) for measured in (self.proved, *self.shipped.values()))


def judge_on_golden(
    bundle: Bundle, folder: Path, vision: Vision, scales: Mapping[str, np.ndarray], *, half: bool
) -> GoldenJudgement:
    """Judge the graphs ``vision`` in ``folder`` on the golden pictures, in each arithmetic that may run them."""
    proof, proved = golden_proof(bundle, folder / vision.graphs[0].file, scales, vision.ir_version, half=half)
    alone = replace(vision, twin=None)  # which another processor would run in its place
    return GoldenJudgement(proof, proved, golden_features(bundle, folder, alone))


def golden_proof(
    bundle: Bundle, path: Path, scales: Mapping[str, np.ndarray], ir_version: int, *, half: bool
) -> tuple[dict, Agreement]:
    """Every boundary of the quantised graph at ``path`` against PyTorch, from ``golden.npz``: the manifest's record.

    Beside it ``image_features``, which are the record's last tensor.

    ``image_features`` are compared in full, boundaries at the tokens that the golden file holds. A boundary whose
    channels were smoothed is scaled back first.
    """
    graph = graph_from_file(path)
    tensors = graph.tensors()
    golden = read_golden(bundle)
    marked = [name for name in golden.samples if name in tensors]
    graph.outputs += [tensors[name] for name in marked if tensors[name] is not graph.outputs[0]]
    prepare = bundle.manifest.image_preprocessing
    agreements: dict[str, list[Agreement]] = {name: [] for name in [*marked, IMAGE_FEATURES]}
    with quiet(), _running(graph, [IMAGE_FEATURES, *marked], ir_version, half=half) as run:
        for index, picture in enumerate(golden.pictures):
            values = run(prepare.normalize(picture)[None])
            agreements[IMAGE_FEATURES].append(agreement(IMAGE_FEATURES, golden.image_features[index][None], values[0]))
            for name, value in zip(marked, values[1:]):
                indices, expected = golden.samples[name]
                rows = value.reshape(-1, value.shape[-1])[indices].astype(np.float32)  # [s, C]
                if name in scales:
                    rows = rows * np.asarray(scales[name], np.float32)
                agreements[name].append(agreement(name, expected[index], rows))
    worst = [worst_agreement(by_picture) for by_picture in agreements.values()]
    record = {
        "reference": "PyTorch FP32",
        "judged_by": "half arithmetic, node by node" if half else "ONNX Runtime, as shipped",
        "pictures": golden.names,
        "tensors": [tensor.to_dict() for tensor in worst],
    }
    return record, worst[-1]


def with_tolerance(proof: dict, tolerance: Tolerance) -> dict:
    """The record with what ``image_features`` are held to, for whoever checks the bundle later."""
    return {**proof, "tolerance": asdict(tolerance)}


def tolerance_of(max_drop: float) -> Tolerance:
    """What a later check of the bundle allows: the budget, with the largest difference bounded as for its error."""
    allowed = Tolerance.of_relative_error((2 * max_drop / 100) ** 0.5)
    return replace(allowed, cosine=1 - max_drop / 100, norm_drift=max(max_drop / 100, 1e-4))
