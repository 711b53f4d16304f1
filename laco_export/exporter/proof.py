"""The accuracy gate: Polygraphy compares what is exported with PyTorch at every boundary of the encoder.

Two comparisons, of two questions:

1. Is the rewritten graph PyTorch's (:func:`prove_rewrites`)? It runs in FP32, block by block from PyTorch's own input,
   so that nothing but the block itself can differ, and by no more than the order of sums. The ranges that the
   precision step needs are measured in the same run.
2. What does the precision cost (:func:`judge`)? The file as shipped runs from the pixels on. A half-precision graph is
   judged in its own arithmetic (:mod:`.interpreter`), an FP32 graph by ONNX Runtime on a copy whose boundaries are
   outputs. ONNX Runtime then also runs the file as shipped (:func:`prove_shipped`), since marking outputs can change a
   runtime's fusion; its CPU provider upcasts half, so that this proves the file but not the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from ..agreement import Agreement, worst, worst_of
from ..bundle import IMAGE_FEATURES, PIXEL_VALUES
from ..errors import CheckpointError, ExportError
from ..onnx_session import open_session
from .boundaries import STRICTNESS, BoundaryComparison, boundary_of
from .external_data import graph_from_file
from .interpreter import GraphInterpreter, TensorObserver
from .runners import (
    ARITHMETIC,
    ONNXRUNTIME,
    PYTORCH,
    SHIPPED,
    BatchRunner,
    GraphRunner,
    TorchRunner,
    interpreted_features,
    onnxruntime_features,
    onnxruntime_runner,
)
from .tower import VisionTower

REWRITTEN = "the rewritten graph in FP32, block by block"


@dataclass(frozen=True)
class Reference:
    """What PyTorch makes of the pictures: computed once, compared with everything.

    Attributes:
        pictures: float32 ``[1, 3, H, W]`` each.
        results: Polygraphy's record of the PyTorch run.
    """

    tower: VisionTower
    pictures: Sequence[np.ndarray]
    results: object

    @classmethod
    def of(cls, tower: VisionTower, pictures: Sequence[np.ndarray]) -> Reference:
        """Run ``tower`` on each picture.

        Raises:
            CheckpointError: PyTorch itself does not come to finite numbers.
        """
        from polygraphy.comparator import Comparator

        runner = TorchRunner(tower, tuple(pictures[0].shape))
        reference = cls(
            tower, pictures, Comparator.run([runner], data_loader=[{PIXEL_VALUES: picture} for picture in pictures])
        )
        reference._require_finite()
        return reference

    def _require_finite(self) -> None:
        for number, tensors in enumerate(self.expected, 1):
            for name in (*self.tower.boundary_names, IMAGE_FEATURES):  # in the order of the encoder
                if not np.isfinite(tensors[name]).all():
                    raise CheckpointError(
                        "the checkpoint's vision tower does not come to finite numbers in PyTorch",
                        given=f"inf or NaN first at {name}, picture {number} of {len(self.pictures)}",
                        todo="look for NaN in the checkpoint's weights; nothing could be compared with them",
                    )

    @property
    def expected(self) -> list[Mapping[str, np.ndarray]]:
        """Tensors by name per picture: ``image_features`` and every boundary."""
        return [dict(iteration.items()) for iteration in self.results[PYTORCH]]

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return tuple(self.pictures[0].shape)

    def compare(self, runner, strictness: str) -> list[Agreement]:
        """Run ``runner`` on the pictures and compare it with PyTorch: the worst of each tensor, in encoder order."""
        from polygraphy.comparator import Comparator

        pictures = [{PIXEL_VALUES: picture} for picture in self.pictures]
        one_by_one = Comparator.run([runner], data_loader=pictures, streaming=True)
        forced = getattr(runner, "forced", None) is not None
        compare = BoundaryComparison(self.tower, self.expected, strictness, forced=forced)
        both = [self.results, one_by_one]
        accuracy = Comparator.compare_accuracy(both, compare_func=compare, comparisons=[(0, 1)])[0]
        iterations = accuracy[(PYTORCH, runner.name)]
        return [worst_of([iteration[name] for iteration in iterations]) for name in iterations[0]]


@dataclass(frozen=True)
class Proof:
    """The comparisons' results.

    Attributes:
        judge: the runner that decides.
        agreements: runner → its tensors, in the order in which the encoder computes them.
        notes: what could not be run, and why.
    """

    precision: str
    judge: str
    agreements: dict[str, list[Agreement]]
    notes: list[str] = field(default_factory=list)

    @property
    def worst(self) -> Agreement:
        """The judge's tensor with the lowest cosine."""
        return worst(self.agreements[self.judge])

    @property
    def failing(self) -> tuple[str, list[Agreement]] | None:
        """The first runner that is out of tolerance, the judge before the others, and its tensors that are."""
        for runner in dict.fromkeys((self.judge, *self.agreements)):
            failing = [tensor for tensor in self.agreements[runner] if not tensor.within()]
            if failing:
                return runner, failing
        return None

    def to_manifest(self, pictures: list[str]) -> dict:
        by_runner = {name: [tensor.to_dict() for tensor in tensors] for name, tensors in self.agreements.items()}
        judged = by_runner.pop(self.judge)
        return {
            "reference": "PyTorch FP32",
            "judged_by": self.judge,
            "tolerance": asdict(STRICTNESS[self.precision].tensor),
            "pictures": pictures,
            "tensors": [tensor for tensor in judged if tensor["name"] == boundary_of(tensor["name"])],
            "branches": [tensor for tensor in judged if tensor["name"] != boundary_of(tensor["name"])],
            "also": by_runner,
        }

    def require(self) -> None:
        """Raise :class:`ExportError` naming the worst tensor unless every runner is within tolerance."""
        if self.failing is not None:
            raise self._failure(*self.failing)

    def _failure(self, runner: str, failing: list[Agreement]) -> ExportError:
        lowest, first = worst(failing), failing[0]
        remedies = ["add --bisect for a report and a plot of the error by block"]
        if self.precision != "fp32" and runner != REWRITTEN:
            remedies.append("export with --fp32, or give pictures like your own with --images")
        else:
            remedies.append("report this with the checkpoint's config.json")
        graph = "rewritten" if runner == REWRITTEN else self.precision.upper()
        return ExportError(
            f"the {graph} graph does not compute what PyTorch computes (judged by {runner})",
            given=f"worst at {lowest.name}: {lowest.numbers()}; first out of tolerance: {first.name}",
            allowed=f"there: {_in_words(lowest)}",
            todo="; or ".join(remedies),
        )


def _in_words(agreement: Agreement) -> str:
    allowed = agreement.tolerance
    largest = allowed.max_abs * agreement.largest
    return f"cosine ≥ {allowed.cosine:.7g}, norms within {allowed.norm_drift:.2g}, max abs ≤ {largest:.3g}"


def prove_rewrites(reference: Reference, graph: gs.Graph, observe: TensorObserver | None = None) -> Proof:
    """Compare the rewritten FP32 graph with PyTorch, every block from PyTorch's own input.

    Args:
        graph: before conversion; its outputs are ``image_features`` and every boundary.
        observe: sees every tensor: :class:`~.ranges.RangeMeter`.
    """
    names = reference.tower.boundary_names
    runner = GraphRunner(
        REWRITTEN,
        lambda: GraphInterpreter(graph),
        names,
        reference.pixel_shape,
        observe=observe,
        forced=reference.expected,
    )
    return Proof("fp32", REWRITTEN, {REWRITTEN: reference.compare(runner, "blockwise")})


def judge(reference: Reference, shipped: Path, marked: Path, *, precision: str) -> Proof:
    """Let the deciding runner run the graph.

    Args:
        shipped: the bundle's graph file for one picture.
        marked: the same graph with its boundaries as outputs; read for FP32 alone.
        precision: ``fp32``, ``fp16`` or ``bf16``.
    """
    if precision == "fp32":
        runner = onnxruntime_runner(marked, ONNXRUNTIME)
    else:
        runner = GraphRunner(
            ARITHMETIC[precision],
            lambda: GraphInterpreter(graph_from_file(shipped)),
            reference.tower.boundary_names,
            reference.pixel_shape,
        )
    return Proof(precision, runner.name, {runner.name: reference.compare(runner, precision)})


def prove_shipped(reference: Reference, proof: Proof, graphs: Mapping[int, Path]) -> Proof:
    """Add to ``proof`` what ONNX Runtime makes of the shipped files; where it cannot run them, the judge's arithmetic.

    Args:
        graphs: batch size → file.
    """
    agreements, notes = dict(proof.agreements), list(proof.notes)
    features = [tensors[IMAGE_FEATURES] for tensors in reference.expected]
    for batch, path in graphs.items():
        name, open_features = "ONNX Runtime", onnxruntime_features
        if (missing := _missing_kernel(path)) is not None:
            notes.append(f"ONNX Runtime's CPU provider cannot run {path.name} ({missing}): {proof.judge} judged alone")
            if batch == 1:  # judged already, block by block
                continue
            name, open_features = proof.judge, interpreted_features
        if batch == 1:
            runner = onnxruntime_runner(path, SHIPPED)
        else:
            opened = partial(open_features, path)
            runner = BatchRunner(f"{name}, {path.name}", opened, batch, reference.pixel_shape, features)
        agreements[runner.name] = reference.compare(runner, proof.precision)
    return Proof(proof.precision, proof.judge, agreements, notes)


def _missing_kernel(path: Path) -> str | None:
    """Why ONNX Runtime's CPU provider has no session for this file; None where it has one."""
    import onnx
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as MissingKernel

    if not any(tensor.data_type == onnx.TensorProto.BFLOAT16 for tensor in _initializers(path)):
        return None  # everything else that is exported has its kernels
    try:
        open_session(path)
    except MissingKernel:
        return "it has no bfloat16 kernels"
    return None


def _initializers(path: Path):
    import onnx

    return onnx.load(str(path), load_external_data=False).graph.initializer
