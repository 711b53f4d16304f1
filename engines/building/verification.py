"""The comparison that runs by itself after a build: a rebuild can change answers (TensorRT issues 4730, 4798)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from laco_export.bundle import Bundle

from ..runtimes import RUNTIMES, TensorRTVision
from .build_device import BuildDevice
from .builder import BuildResult


@dataclass(frozen=True)
class Comparison:
    """The engines' outputs beside ``golden.npz``, or why there was nothing to compare.

    Attributes:
        ran: the engines ran on this machine.
        passed: within the tolerances; None where nothing ran.
        summary: one line for people.
        details: the check's own document.
    """

    ran: bool
    passed: bool | None
    summary: str
    details: dict | None = None

    def to_dict(self) -> dict:
        return {"ran": self.ran, "passed": self.passed, "summary": self.summary, "details": self.details}


def open_engines(bundle: Bundle, device: BuildDevice, results: Sequence[BuildResult]) -> TensorRTVision:
    """The runtime of the builder's library on exactly the engines of ``results``."""
    engines = {result.graph.batch: result.stored for result in results}
    return RUNTIMES[device.library.replace("_", "-")](bundle, engines=engines)


def compare_after_build(bundle: Bundle, device: BuildDevice, results: Sequence[BuildResult]) -> list[Comparison]:
    """Run the engines on the bundle's golden pictures where their device is here, each batch size by itself.

    An engine for a device that is elsewhere is compared there: ``laco-engine diff BUNDLE``.
    """
    if device.cuda is None:
        return [
            Comparison(
                False,
                None,
                "not compared with golden.npz: the engine runs on such a device only (there: laco-engine diff)",
            )
        ]
    from ..comparison.golden_check import check_golden

    comparisons = []
    for result in results:
        with closing(open_engines(bundle, device, [result])) as runtime:
            check = check_golden(bundle, runtime)
        summary = f"{result.graph.file}: {check.summary()}"
        comparisons.append(Comparison(True, check.passed, summary, check.to_dict()))
    return comparisons
