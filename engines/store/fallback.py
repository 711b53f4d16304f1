"""The other form that an eight-bit bundle carries: the same tower in FP16, since eight bits are not always faster.

``laco-calibrate`` cannot time a device that is not there: it chooses by accuracy and puts the FP16 graphs beside. The
build on the device makes both and times them (:mod:`laco_engines.building.faster_form`); its finding stands in the
sidecar of each eight-bit engine.
"""

from __future__ import annotations

from dataclasses import replace

from laco_export.bundle import Bundle, graphs_from

from .engine_cache import StoredEngine

MEASURED = "beside_fallback"
"""The sidecar's key of the finding, a :class:`~laco_engines.building.faster_form.Finding`."""


def fallback_of(bundle: Bundle) -> Bundle | None:
    """The bundle as if its fallback were its vision tower; None where it has none, or where nothing is left to measure
    because the calibration timed this form on its device."""
    vision = bundle.manifest.vision
    if vision.fallback is None or (vision.calibration or {}).get("time") != "unmeasured":
        return None
    other = replace(
        vision,
        graphs=graphs_from(vision.fallback["graphs"]),
        weights=vision.fallback["weights"],
        precision=vision.fallback["precision"],
        calibration=None,
        fallback=None,
    )
    return replace(bundle, manifest=replace(bundle.manifest, vision=other))


def keeps_fallback(stored: StoredEngine) -> bool:
    """Whether the build on this device found the fallback faster than this eight-bit engine."""
    return stored.sidecar.get(MEASURED, {}).get("kept") == "fallback"
