"""Eight bits or FP16: on the device that is here, whichever is faster runs.

INT8 ViT-L was reported at half the speed of FP16 (NVIDIA Model-Optimizer issue 167), so it is never assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np

from laco_export.bundle import Bundle
from laco_export.timing import interleave

from ..runtimes import TensorRTVision
from ..store.engine_cache import EngineCache
from ..store.fallback import MEASURED
from .builder import BuildResult

REPEATS, WARMUP = 30, 5
"""Runs of each form in turn: encodes take milliseconds, and the medians of 30 are compared."""


@dataclass(frozen=True)
class Finding:
    """The two forms of one batch size on one device.

    Attributes:
        kept: ``own`` (the bundle's precision) or ``fallback``.
        own_ms, fallback_ms: medians of a call.
    """

    kept: str
    precision: str
    own_ms: float
    fallback_precision: str
    fallback_ms: float

    def summary(self, batch: int) -> str:
        """One line for people."""
        faster = self.fallback_precision if self.kept == "fallback" else self.precision
        return (
            f"batch {batch}: {self.precision} {self.own_ms:.2f} ms, {self.fallback_precision} "
            f"{self.fallback_ms:.2f} ms; {faster} will run"
        )


def find_faster_forms(
    bundle: Bundle,
    fallback: Bundle,
    results: list[BuildResult],
    other_results: list[BuildResult],
    cache: EngineCache,
    open_engines: Callable[[Bundle, list[BuildResult]], TensorRTVision],
) -> dict[int, Finding]:
    """Time each pair of engines and note the faster one in the sidecar of the bundle's own.

    Args:
        fallback: of the bundle, see :func:`~laco_engines.store.fallback.fallback_of`.
        results: of the bundle's own graphs; other_results: of its fallback's.
        open_engines: a runtime of a bundle on exactly these engines.

    Returns:
        by batch size. A pair of engines that was timed before is not timed again.
    """
    others = {result.graph.batch: result for result in other_results}
    pairs = [(result, others[result.graph.batch]) for result in results if result.graph.batch in others]
    findings: dict[int, Finding] = {}
    unknown = []
    for own, other in pairs:
        noted = own.stored.sidecar.get(MEASURED) if own.status == other.status == "cached" else None
        if noted is None:
            unknown.append((own, other))
        else:
            findings[own.graph.batch] = Finding(**noted)
    if unknown:
        with (
            closing(open_engines(bundle, [own for own, _ in unknown])) as own_runtime,
            closing(open_engines(fallback, [other for _, other in unknown])) as other_runtime,
        ):
            for own, _ in unknown:
                finding = _time(own, own_runtime, other_runtime)
                cache.annotate(own.stored, {MEASURED: asdict(finding)})
                findings[own.graph.batch] = finding
    return dict(sorted(findings.items()))


def _time(own: BuildResult, own_runtime: TensorRTVision, other_runtime: TensorRTVision) -> Finding:
    pixels = np.random.default_rng(0).standard_normal(own.graph.input.shape, np.float32)
    runs = {
        "own": (lambda: own_runtime.encode(pixels), False),
        "fallback": (lambda: other_runtime.encode(pixels), False),
    }
    measured = interleave(runs, repeats=REPEATS, warmup=WARMUP)
    own_ms, fallback_ms = (measured[name].quantile(0.5) for name in runs)
    return Finding(
        kept="own" if own_ms < fallback_ms else "fallback",  # at a draw the more accurate form
        precision=own_runtime.precision,
        own_ms=own_ms,
        fallback_precision=other_runtime.precision,
        fallback_ms=fallback_ms,
    )
