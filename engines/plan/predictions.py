"""Figures of a device that is not here: floors times a span of public figures, memory by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from ..devices.profiles import DeviceProfile
from .figures import PREDICTED, Figure
from .floors import DeviceFloors, TextFloor, vision_operations
from .gauges import MeasurementError, fitted_bytes
from .limits import Quantity, TextFigures
from .space import Candidate
from .spans import DECODE_SPAN, PREFILL_SPAN, VISION_SPAN, FloorSpan


class DeviceGauge:
    """A :class:`~.gauges.Gauge` of a device of the table: each time is a floor times a span (:mod:`.spans`)."""

    costs_nothing = True

    def __init__(self, profile: DeviceProfile, quantity: Quantity, pictures: int):
        self.profile, self.quantity, self.pictures = profile, quantity, pictures
        self.floors, self.taken, self.busy = DeviceFloors(profile), 0, set()

    def vision_floor_ms(self, candidate: Candidate) -> float | None:
        return self.floors.vision_ms(candidate)

    def text_floor(self, candidate: Candidate) -> TextFloor | None:
        return self.floors.text(candidate, self.pictures)

    def operations(self, candidate: Candidate) -> Mapping[str, int]:
        return vision_operations(candidate)

    def recorded(self, candidate: Candidate) -> tuple[Figure | None, TextFigures | None]:
        return self.measure(candidate, encode=True, text=self.quantity.needs_text)

    def measure(self, candidate: Candidate, *, encode: bool, text: bool) -> tuple[Figure | None, TextFigures | None]:
        vision = self.vision_floor_ms(candidate)
        least = self.text_floor(candidate) if text else None
        if vision is None or (text and least is None):
            raise MeasurementError(
                f"the time of {candidate} on {self.profile.title} cannot be predicted",
                given=f"a vision tower in {candidate.model.precision}",
                allowed=f"arithmetic in {', '.join(self.profile.peak_flops)}, with the package onnx installed",
            )
        if least is None:
            return spanned(vision, VISION_SPAN), None
        # How long a board takes to read and resize a picture is not known; the output says that it is left out.
        nothing = Figure.exact(0.0, PREDICTED)
        prefill, token = spanned(least.prefill_ms, PREFILL_SPAN), spanned(least.token_ms, DECODE_SPAN)
        return spanned(vision, VISION_SPAN), TextFigures(nothing, prefill, token)

    def memory(self, candidate: Candidate) -> Figure:
        return Figure.exact(fitted_bytes(candidate, self.profile), PREDICTED)

    def memory_guess(self, candidate: Candidate) -> Figure:
        return self.memory(candidate)


def spanned(floor_ms: float, span: FloorSpan) -> Figure:
    """A floor as a prediction: as many times longer as public figures are than their floors."""
    return Figure(floor_ms * span.middle, floor_ms * span.low, floor_ms * span.high, frozenset({PREDICTED}))
