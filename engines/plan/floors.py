"""The least time of each part of an answer by arithmetic: what no run can beat, here and on devices of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from laco_export.bundle import Bundle

from ..cost.decoder_cost import DecoderCost, decoder_cost
from ..cost.graph_cost import GraphCost, graph_cost
from ..cost.roofline import Floor, floor_of, floor_on_device, floor_on_host, host_rates
from ..devices.host_peaks import HostPeaks
from ..devices.profiles import DeviceProfile
from .space import Candidate, Model


@dataclass(frozen=True)
class TextFloor:
    """The language model's least milliseconds: of the prompt, and of each further token."""

    prefill_ms: float
    token_ms: float


@cache
def vision_cost(model: Model, batch: int) -> GraphCost | None:
    """Of one call of the vision tower; None without the package ``onnx``."""
    try:
        return graph_cost(model.bundle.file(model.graphs[batch].file))
    except ModuleNotFoundError:
        return None


@cache
def text_cost(model: Model) -> DecoderCost:
    """Of the language model."""
    return decoder_cost(model.bundle)


@cache
def prompt_tokens(model: Model, pictures: int) -> int:
    """Tokens of the question that is timed, about so many pictures; nothing is computed."""
    from ..bench.measure import QUESTION, random_pictures
    from ..prompts.prompter import Prompter

    return len(Prompter(model.bundle).prepare(random_pictures(0, pictures), QUESTION).input_ids)


class HostFloors:
    """On this machine's CPU, by peaks that are measured once for each number of threads.

    Args:
        measure: peaks by threads.
    """

    def __init__(self, measure: Callable[[int], HostPeaks]):
        self.peaks = cache(measure)

    def vision_ms(self, candidate: Candidate, pictures: int) -> float | None:
        """Of all pictures of a question; None where the floor is not known."""
        cost = vision_cost(candidate.model, candidate.batch)
        if cost is None:
            return None
        floor, _ = floor_on_host([cost], self.peaks(candidate.threads))
        return None if floor is None else candidate.calls(pictures) * floor.ms

    def text(self, candidate: Candidate, pictures: int) -> TextFloor | None:
        """Of the language model."""
        peaks = self.peaks(candidate.threads)
        return _text_floor(candidate.model, pictures, host_rates(peaks), peaks.bandwidth, on_cpu=True)


class DeviceFloors:
    """On a device of the table, which need not be here."""

    def __init__(self, profile: DeviceProfile):
        self.profile = profile

    def vision_ms(self, candidate: Candidate, pictures: int) -> float | None:
        """See :meth:`HostFloors.vision_ms`."""
        cost = vision_cost(candidate.model, candidate.batch)
        floor, _ = (None, None) if cost is None else floor_on_device([cost], self.profile)
        return None if floor is None else candidate.calls(pictures) * floor.ms

    def text(self, candidate: Candidate, pictures: int) -> TextFloor | None:
        """See :meth:`HostFloors.text`."""
        profile = self.profile
        return _text_floor(candidate.model, pictures, profile.peak_flops, profile.bandwidth, on_cpu=False)


def _text_floor(model: Model, pictures: int, rates, bandwidth: float, *, on_cpu: bool) -> TextFloor | None:
    cost = text_cost(model)
    floor = lambda flops: floor_of(flops, cost.weight_bytes, peak_flops=rates, bandwidth=bandwidth)
    prefill: Floor | None = floor(cost.prefill_flops(prompt_tokens(model, pictures), on_cpu=on_cpu))
    token: Floor | None = floor(cost.token_flops(on_cpu=on_cpu))
    return None if prefill is None or token is None else TextFloor(prefill.ms, token.ms)


def alone(bundle: Bundle, batch: int) -> Bundle:
    """The bundle with the vision graph of one batch size."""
    from dataclasses import replace

    vision = bundle.manifest.vision
    graphs = [graph for graph in vision.graphs if graph.batch == batch]
    return replace(bundle, manifest=replace(bundle.manifest, vision=replace(vision, graphs=graphs)))
