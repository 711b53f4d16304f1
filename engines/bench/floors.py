"""The floor under a bundle's encode time on the device that runs it."""

from __future__ import annotations

from collections.abc import Sequence

from ..building.graph_cost import GraphCost
from ..devices.host import HostPeaks
from ..devices.profiles import DeviceProfile
from ..devices.roofline import Floor, floor_of


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
