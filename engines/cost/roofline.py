"""The floor under a latency: what the arithmetic and the memory bus of a device allow at best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..devices.host_peaks import HostPeaks
from ..devices.profiles import DeviceProfile
from .graph_cost import GraphCost


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
        flops: operations by type (:class:`~laco_engines.cost.graph_cost.GraphCost`).
        least_traffic: bytes that must cross the bus.
        peak_flops: operations per second by type; bandwidth: bytes per second.

    Returns:
        None where the device's peak of one of the types is not known.
    """
    if any(kind not in peak_flops for kind in flops):
        return None
    seconds = sum(count / peak_flops[kind] for kind, count in flops.items())
    return Floor(1000 * seconds, 1000 * least_traffic / bandwidth)


def floor_on_host(costs: Sequence[GraphCost], peaks: HostPeaks | None) -> tuple[Floor | None, str | None]:
    """Of the graphs that one call runs, on this CPU with the peaks that were measured on it.

    Returns:
        the floor, or None and why there is none.
    """
    if peaks is None:
        return None, "no floor: the CPU's peaks were not measured"
    # ONNX Runtime's CPU provider has no half arithmetic: it computes FP16 and BF16 in FP32.
    rates = {"fp32": peaks.flops, "fp16": peaks.flops, "bf16": peaks.flops}
    if peaks.int8_ops is not None:
        rates["int8"] = peaks.int8_ops
    return _sum(costs, rates, peaks.bandwidth)


def floor_on_device(costs: Sequence[GraphCost], profile: DeviceProfile | None) -> tuple[Floor | None, str | None]:
    """The same on a device of the table."""
    if profile is None:
        return None, "no floor: the device is not in the table of peaks (laco_engines/devices/profiles.py)"
    return _sum(costs, profile.peak_flops, profile.bandwidth)


def _sum(costs: Sequence[GraphCost], rates: dict[str, float], bandwidth: float) -> tuple[Floor | None, str | None]:
    unknown = sorted({kind for cost in costs for kind in cost.flops} - set(rates))
    if unknown:
        return None, f"no floor: no peak of {', '.join(unknown)} is known for this device"
    floors = [floor_of(cost.flops, cost.least_traffic, peak_flops=rates, bandwidth=bandwidth) for cost in costs]
    return Floor(sum(floor.compute_ms for floor in floors), sum(floor.memory_ms for floor in floors)), None
