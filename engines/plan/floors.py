"""The least time of each part of an answer by arithmetic: what no run can beat, here and on devices of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from ..cost.decoder_cost import decoder_cost
from ..cost.graph_cost import GraphCost, graph_cost
from ..cost.roofline import Floor, floor_on_device, floor_on_host
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


def vision_operations(candidate: Candidate) -> dict[str, int]:
    """Operations of the vision tower on a question's pictures, by the type that is multiplied; empty where not known.

    Without ``onnx`` they are those of the layers, which tells nothing of a tower of which some blocks are calibrated.
    """
    costs = vision_costs(candidate)
    if costs is not None:
        return dict(sum((Counter(cost.flops) for cost in costs), Counter()))
    vision = candidate.model.bundle.manifest.vision
    if vision.calibration is not None or "total" not in vision.flops:
        return {}
    return {vision.precision: vision.flops["total"] * sum(candidate.runs)}


@cache
def _decoder_cost(model: Model, tokens: int) -> GraphCost:
    return decoder_cost(model.bundle.file(model.bundle.manifest.decoder.graph), tokens)


def text_costs(model: Model, pictures: int) -> tuple[GraphCost, GraphCost] | None:
    """Of the pass over the prompt of the question that is timed, and of one further token; None without ``onnx``."""
    try:
        prompt = len(timed_prompt(model, pictures).input_ids)
        return _decoder_cost(model, prompt), _decoder_cost(model, 1)
    except ModuleNotFoundError:
        return None


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
        costs = text_costs(candidate.model, pictures)
        return costs and _text_floor([floor_on_host([cost], self.peaks(candidate.threads))[0] for cost in costs])


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
        costs = text_costs(candidate.model, pictures)
        if costs is None:
            return None
        if candidate.model.language_model == "int4":
            costs = tuple(map(_widened, costs))
        return _text_floor([floor_on_device([cost], self.profile)[0] for cost in costs])


def _widened(cost: GraphCost) -> GraphCost:
    """Four-bit weights become half-precision ones in a GPU's product, where a CPU multiplies eight-bit integers."""
    flops = dict(cost.flops)
    flops["fp16"] = flops.get("fp16", 0) + flops.pop("int8", 0)
    return replace(cost, flops=flops)


def _text_floor(floors: list[Floor | None]) -> TextFloor | None:
    prefill, token = floors
    return None if prefill is None or token is None else TextFloor(prefill.ms, token.ms)
