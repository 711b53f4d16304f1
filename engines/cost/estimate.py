"""What a build and an engine will need, said before anything is started.

The figures are arithmetic on the graph, not measurements of the device; each says what it is made of. Where a device is
here, a build that will not fit is refused by them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..devices.profiles import DeviceProfile
from .graph_cost import GraphCost
from .roofline import Floor, floor_of

MIB = 1 << 20

BUILD_WEIGHT_COPIES = 4
"""A build holds the parsed weights, the optimiser's copies and the engine: builds that ran out of memory were
reported at 3 to 4 times the model (NVIDIA/TensorRT-Edge-LLM issue 30)."""
CONTEXT_BYTES = 600 * MIB
"""Of a CUDA context with TensorRT's kernels loaded: assumed, since it differs by driver and device."""
ENGINE_OVERHEAD = 1.05
"""An engine holds the weights and its kernels. TensorRT-RTX's of full-size towers took 1.00 to 1.01 of the weights
(benchmarks/results/engine_builds.json)."""

BUILD_SECONDS_PER_GIB = 7.5
"""The least CPU time of a build, a GiB of weights: TensorRT-RTX, which times no tactics, took 7.9 to 17.8 s for 18
full-size towers on a server's core (benchmarks/results/engine_builds.json). Standard TensorRT does the same and then
times its tactics, whose number its API does not tell."""
BUILD_TIMEOUT = 3600.0
"""Seconds after which a build is ended: timing tactics takes minutes on a Jetson (a detector 9.5 of them on an Orin
with 16 GB, https://github.com/roboflow/inference/pull/2703); a builder that hangs must end at some time."""


@dataclass(frozen=True)
class Estimate:
    """Of one graph on one device.

    Attributes:
        engine_bytes: the engine file.
        build_bytes: memory while it is built, the workspace included.
        build_seconds: the least that the build takes; :data:`BUILD_TIMEOUT` is the most.
        run_bytes: device memory while it runs: engine, activations, context.
        encode_floor: the least time of a run by the device's roofline; None where its peaks are not known.
    """

    engine_bytes: int
    build_bytes: int
    build_seconds: float
    run_bytes: int
    encode_floor: Floor | None

    def to_dict(self) -> dict:
        floor = self.encode_floor
        return {
            **{name: value for name, value in asdict(self).items() if name != "encode_floor"},
            "build_seconds_at_most": BUILD_TIMEOUT,
            "encode_floor_ms": None if floor is None else floor.ms,
            "bound": None if floor is None else floor.bound,
        }


def estimate(cost: GraphCost, *, workspace_bytes: int | None, profile: DeviceProfile | None) -> Estimate:
    """Estimate one graph.

    Args:
        cost: of the graph.
        workspace_bytes: the cap on a tactic's scratch memory; None counts the graph's activations once.
        profile: the device's peaks, where known.
    """
    engine = int(ENGINE_OVERHEAD * cost.weight_bytes)
    scratch = cost.activation_bytes if workspace_bytes is None else min(workspace_bytes, 4 * cost.activation_bytes)
    floor = None
    if profile is not None:
        floor = floor_of(cost.flops, cost.least_traffic, peak_flops=profile.peak_flops, bandwidth=profile.bandwidth)
    return Estimate(
        engine_bytes=engine,
        build_bytes=BUILD_WEIGHT_COPIES * cost.weight_bytes + cost.activation_bytes + scratch + CONTEXT_BYTES,
        build_seconds=BUILD_SECONDS_PER_GIB * cost.weight_bytes / (1 << 30),
        run_bytes=engine + cost.activation_bytes + CONTEXT_BYTES,
        encode_floor=floor,
    )
