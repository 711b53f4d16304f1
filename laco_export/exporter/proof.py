"""The accuracy gate: Polygraphy compares the exported graph with PyTorch at every boundary.

An FP32 graph is judged by ONNX Runtime, on a copy whose boundaries are outputs. A half-precision graph is judged in
real half arithmetic (:mod:`.half_arithmetic`), where every tensor of the shipped file can be read. In both cases ONNX
Runtime also runs the file as shipped, which must be within tolerance too, since marking outputs can change a runtime's
fusion. Its CPU provider upcasts half, so that this proves the file but not the arithmetic.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import ExportError
from .runners import ONNXRUNTIME, PYTORCH, SHIPPED, HalfRunner, TorchRunner, onnxruntime_runner
from .tower import INPUT, OUTPUT, VisionTower


@dataclass(frozen=True)
class Tolerance:
    """Cosine at least ``cosine``, and norms within ``norm_drift`` of each other (cosine misses a lost scale)."""

    cosine: float
    norm_drift: float


TOLERANCES = {"fp32": Tolerance(0.9999, 1e-3), "fp16": Tolerance(0.999, 1e-2)}
"""FP32 differs by the order of sums alone (1e-6 measured); FP16 has 11 bits, and 24 blocks add their rounding."""


@dataclass(frozen=True)
class Agreement:
    """One tensor of one runner against PyTorch, over the pictures: the worst of each.

    Attributes:
        cosine: over the whole tensor of a picture.
        norm_ratio: the runner's norm over PyTorch's, the one furthest from 1.
        max_abs: largest absolute difference.
        worst_token_cosine: the least cosine of a single token, for the reader: a few large tokens rule the whole.
    """

    name: str
    cosine: float
    norm_ratio: float
    max_abs: float
    worst_token_cosine: float

    def within(self, tolerance: Tolerance) -> bool:
        # Written so that NaN fails.
        return self.cosine >= tolerance.cosine and abs(self.norm_ratio - 1) <= tolerance.norm_drift


@dataclass(frozen=True)
class Proof:
    """The comparison's result.

    Attributes:
        judge: the runner that decides.
        agreements: runner → its tensors, in the order in which the encoder computes them.
        expected: PyTorch's outputs, one mapping of names to arrays per picture.
    """

    precision: str
    judge: str
    tolerance: Tolerance
    agreements: dict[str, list[Agreement]]
    expected: list[dict[str, np.ndarray]]

    @property
    def worst(self) -> Agreement:
        """The judge's tensor with the lowest cosine."""
        return min(self.agreements[self.judge], key=lambda found: found.cosine if found.cosine == found.cosine else -2)

    def to_manifest(self, pictures: list[str]) -> dict:
        others = {name: [asdict(a) for a in found] for name, found in self.agreements.items() if name != self.judge}
        return {
            "reference": "PyTorch FP32",
            "judged_by": self.judge,
            "tolerance": asdict(self.tolerance),
            "pictures": pictures,
            "tensors": [asdict(found) for found in self.agreements[self.judge]],
            "also": others,
        }

    def require(self) -> None:
        """Raise :class:`ExportError` naming the worst tensor unless every runner is within tolerance."""
        for runner in (self.judge, *self.agreements):
            failing = [found for found in self.agreements[runner] if not found.within(self.tolerance)]
            if failing:
                raise self._failure(runner, failing)

    def _failure(self, runner: str, failing: list[Agreement]) -> ExportError:
        order = [found.name for found in self.agreements[runner]]
        worst = min(failing, key=lambda found: found.cosine if found.cosine == found.cosine else -2)
        first = min(failing, key=lambda found: order.index(found.name))
        numbers = f"cosine {worst.cosine:.6f}, norm ratio {worst.norm_ratio:.5f}, max abs {worst.max_abs:.4g}"
        half = self.precision != "fp32"
        return ExportError(
            f"the {self.precision.upper()} graph does not compute what PyTorch computes (judged by {runner})",
            given=f"worst at {worst.name}: {numbers}; first out of tolerance: {first.name}",
            allowed=f"cosine ≥ {self.tolerance.cosine}, norms within {self.tolerance.norm_drift:.1%}",
            todo="export with --fp32, or give pictures like your own with --images so that ranges are measured on them"
            if half
            else "report this with the checkpoint's config.json",
        )


def prove(tower: VisionTower, shipped: Path, marked: Path, pictures: Sequence[np.ndarray], *, precision: str) -> Proof:
    """Compare PyTorch with the exported graph on ``pictures``, each float32 ``[1, 3, H, W]``.

    Args:
        shipped: the bundle's graph file.
        marked: the same graph with its boundaries as outputs; read for FP32 alone.
        precision: a key of :data:`TOLERANCES`.
    """
    from polygraphy.comparator import Comparator

    shape = tuple(pictures[0].shape)
    judge = onnxruntime_runner(marked, ONNXRUNTIME)
    if precision != "fp32":
        judge = HalfRunner(shipped, tower.boundary_names, shape)
    runners = [TorchRunner(tower, shape), judge, onnxruntime_runner(shipped, SHIPPED)]
    results = Comparator.run(runners, data_loader=[{INPUT: picture} for picture in pictures])
    accuracy = Comparator.compare_accuracy(
        results, compare_func=_compare_iteration, comparisons=[(0, index) for index in range(1, len(runners))]
    )[0]
    computed = [*tower.boundary_names, OUTPUT]  # in the order of the encoder
    agreements = {
        pair[1]: [_worst_of(name, iterations) for name in computed if name in iterations[0]]
        for pair, iterations in accuracy.items()
    }
    expected = [dict(iteration.items()) for iteration in results[PYTORCH]]
    return Proof(precision, judge.name, TOLERANCES[precision], agreements, expected)


def _compare_iteration(expected, given) -> OrderedDict[str, Agreement]:
    return OrderedDict((name, agreement(name, expected[name], given[name])) for name in expected if name in given)


def _worst_of(name: str, iterations: list[dict[str, Agreement]]) -> Agreement:
    found = [iteration[name] for iteration in iterations]
    return Agreement(
        name,
        cosine=float(np.min([one.cosine for one in found])),  # NaN stays NaN
        norm_ratio=max((one.norm_ratio for one in found), key=lambda ratio: abs(ratio - 1)),
        max_abs=float(np.max([one.max_abs for one in found])),
        worst_token_cosine=float(np.min([one.worst_token_cosine for one in found])),
    )


def agreement(name: str, expected: np.ndarray, given: np.ndarray) -> Agreement:
    """Compare two tensors ``[…, tokens, C]`` in float64; inf or NaN anywhere gives NaN."""
    if expected.shape != given.shape:
        raise ExportError(f"{name} has another shape than in PyTorch", given=given.shape, allowed=expected.shape)
    left = expected.astype(np.float64).reshape(-1, expected.shape[-1])  # [tokens, C]
    right = given.astype(np.float64).reshape(left.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        dots, lefts, rights = (left * right).sum(1), (left**2).sum(1), (right**2).sum(1)
        norms = np.sqrt(lefts.sum()), np.sqrt(rights.sum())
        cosine = _ratio(dots.sum(), norms[0] * norms[1])
        tokens = [_ratio(*pair) for pair in zip(dots, np.sqrt(lefts * rights))]
        return Agreement(
            name,
            cosine=cosine,
            norm_ratio=_ratio(norms[1], norms[0]),
            max_abs=float(np.abs(left - right).max()),
            worst_token_cosine=float(np.min(tokens)),
        )


def _ratio(numerator: float, denominator: float) -> float:
    if not np.isfinite(numerator) or not np.isfinite(denominator):
        return float("nan")
    if denominator == 0:
        return 1.0 if numerator == 0 else float("nan")  # zeros against zeros agree
    return float(numerator / denominator)
