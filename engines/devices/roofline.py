"""The floor under a latency: what the arithmetic and the memory bus of a device allow at best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """The least time of one run, in milliseconds.

    Attributes:
        compute_ms: all operations at the device's dense peak of their type.
        memory_ms: each weight, the input and the output once over the bus at full bandwidth.
    """

    compute_ms: float
    memory_ms: float

    @property
    def ms(self) -> float:
        return max(self.compute_ms, self.memory_ms)

    @property
    def bound(self) -> str:
        return "compute-bound" if self.compute_ms >= self.memory_ms else "bandwidth-bound"


def floor_of(
    flops: Mapping[str, int], least_traffic: int, *, peak_flops: Mapping[str, float], bandwidth: float
) -> Floor | None:
    """The floor of one run.

    Args:
        flops: operations by type (:class:`~laco_engines.building.graph_cost.GraphCost`).
        least_traffic: bytes that must cross the bus.
        peak_flops: operations per second by type; bandwidth: bytes per second.

    Returns:
        None where the device's peak of one of the types is not known.
    """
    if any(kind not in peak_flops for kind in flops):
        return None
    seconds = sum(count / peak_flops[kind] for kind, count in flops.items())
    return Floor(1000 * seconds, 1000 * least_traffic / bandwidth)
