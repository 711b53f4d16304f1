"""The least time of each part of an answer by arithmetic: what no run can beat, here and on devices of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ..cost.decoder_cost import DecoderCost, decoder_cost
from ..cost.graph_cost import GraphCost, graph_cost
from ..cost.roofline import Floor, floor_of, floor_on_device, floor_on_host, host_rates
from ..devices.host_peaks import HostPeaks
from ..devices.profiles import DeviceProfile
from .space import Candidate, Model, timed_prompt


@dataclass(frozen=True)
class TextFloor:
    """The language model's least milliseconds: of the prompt, and of each further token."""

    prefill_ms: float
    token_ms: float


@cache
def _graph_cost(model: Model, batch: int) -> GraphCost:
    return graph_cost(model.bundle.file(model.graphs[batch].file))


def vision_costs(candidate: Candidate) -> list[GraphCost] | None:
    """Of the graphs that a question runs; None without the package ``onnx``."""
    try:
        return [_graph_cost(candidate.model, batch) for batch in candidate.runs]
    except ModuleNotFoundError:
        return None


@cache
def text_cost(model: Model) -> DecoderCost:
    """Of the language model."""
    return decoder_cost(model.bundle)


class HostFloors:
    """On this machine's CPU, by peaks that are measured once for each number of threads.

    Args:
        measure: peaks by threads.
    """

    def __init__(self, measure: Callable[[int], HostPeaks]):
        self._measure = measure
        self.peaks = cache(self._peaks)

    def _peaks(self, threads: int) -> HostPeaks | None:
        """None without the package ``onnx``."""
        try:
            return self._measure(threads)
        except ModuleNotFoundError:
            return None

    def vision_ms(self, candidate: Candidate) -> float | None:
        """Of all pictures of a question; None where the floor is not known."""
        costs = vision_costs(candidate)
        floor, _ = (None, None) if costs is None else floor_on_host(costs, self.peaks(candidate.threads))
        return None if floor is None else floor.ms

    def text(self, candidate: Candidate, pictures: int) -> TextFloor | None:
        """Of the language model."""
        peaks = self.peaks(candidate.threads)
        if peaks is None:
            return None
        return _text_floor(candidate.model, pictures, host_rates(peaks), peaks.bandwidth, on_cpu=True)


class DeviceFloors:
    """On a device of the table, which need not be here."""

    def __init__(self, profile: DeviceProfile):
        self.profile = profile

    def vision_ms(self, candidate: Candidate) -> float | None:
        """See :meth:`HostFloors.vision_ms`."""
        costs = vision_costs(candidate)
        floor, _ = (None, None) if costs is None else floor_on_device(costs, self.profile)
        return None if floor is None else floor.ms

    def text(self, candidate: Candidate, pictures: int) -> TextFloor | None:
        """See :meth:`HostFloors.text`."""
        profile = self.profile
        return _text_floor(candidate.model, pictures, profile.peak_flops, profile.bandwidth, on_cpu=False)


def _text_floor(model: Model, pictures: int, rates, bandwidth: float, *, on_cpu: bool) -> TextFloor | None:
    cost = text_cost(model)
    floor = lambda flops: floor_of(flops, cost.weight_bytes, peak_flops=rates, bandwidth=bandwidth)
    prefill: Floor | None = floor(cost.prefill_flops(len(timed_prompt(model, pictures).input_ids), on_cpu=on_cpu))
    token: Floor | None = floor(cost.token_flops(on_cpu=on_cpu))
    return None if prefill is None or token is None else TextFloor(prefill.ms, token.ms)
