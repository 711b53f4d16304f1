"""Facts about devices, in one table: what an estimate or a roofline needs of a device that may not be here.

Peaks are dense ones (vendors print those with 2:4 sparsity, which doubles them) at the highest clocks; a power mode
below that lowers them, so a floor made of them stays a floor. Sources:

* ``[orin]``: NVIDIA, Jetson Orin Nano Series and Jetson AGX Orin Series data sheets and technical brief: 67 and 170
  sparse INT8 TOPS of the GPU (MAXN SUPER, MAXN), 102 and 204.8 GB/s. A tensor core does half as much in FP16 as in
  INT8.
* FP32 is what tensor cores do of it, in TF32, as TensorRT and ONNX Runtime's CUDA provider let them unless told
  otherwise: half of FP16. By the CUDA cores alone (2.09 TFLOPS on an Orin Nano) ViT-B/16 in FP32 would take 16.8 ms at
  least, and onnxsim's scripts measured 13.65 (``benchmarks/plan_public_figures.py``).
* ``[thor]``: NVIDIA, Jetson Thor Series data sheet: 2070 sparse FP4 TFLOPS, 273 GB/s; FP8 and INT8 take half of
  FP4, FP16 half of that.
* ``[hopper]``: NVIDIA, H200 data sheet: 1979 sparse FP16 TFLOPS, 3958 sparse INT8 TOPS, 141 GB at 4.8 TB/s.
* Memory: what Linux or the driver shows, not what the box says: an 8 GB Orin Nano shows 7.44 GiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cuda import CudaDevice
from .jetson import read_board

GIB = 1 << 30


@dataclass(frozen=True)
class DeviceProfile:
    """A device.

    Attributes:
        name: as ``--device`` spells it.
        title: for people; :func:`profile_of` finds the profile by ``matches`` in the CUDA device's or board's name.
        capability: CUDA compute capability, 87 for 8.7.
        memory_bytes: in all; on a Jetson shared with the CPU.
        reserved_bytes: of it the operating system's own, taken off before anything is said to fit.
        peak_flops: dense operations per second by the type that is multiplied.
        bandwidth: bytes per second from memory.
        tensorrt: the version that its system image brings.
        source: the key of the list above.
    """

    name: str
    title: str
    matches: tuple[str, ...]
    capability: int
    memory_bytes: int
    reserved_bytes: int
    peak_flops: dict[str, float]
    bandwidth: float
    tensorrt: str
    source: str

    @property
    def usable_bytes(self) -> int:
        return self.memory_bytes - self.reserved_bytes


PROFILES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        DeviceProfile(
            name="orin-nano",
            title="Jetson Orin Nano 8 GB (MAXN SUPER)",
            matches=("orin nano",),
            capability=87,
            memory_bytes=int(7.44 * GIB),
            reserved_bytes=int(1.5 * GIB),  # a desktop image; about 6 GB are left to programs
            peak_flops={"fp16": 16.75e12, "bf16": 16.75e12, "int8": 33.5e12, "fp32": 8.375e12},
            bandwidth=102e9,
            tensorrt="10.3 (JetPack 6.1, 6.2), 10.16 (JetPack 7.2)",
            source="[orin]",
        ),
        DeviceProfile(
            name="agx-orin",
            title="Jetson AGX Orin 64 GB (MAXN)",
            matches=("agx orin",),
            capability=87,
            memory_bytes=int(61.3 * GIB),
            reserved_bytes=2 * GIB,
            peak_flops={"fp16": 42.5e12, "bf16": 42.5e12, "int8": 85e12, "fp32": 21.25e12},
            bandwidth=204.8e9,
            tensorrt="10.3 (JetPack 6.1, 6.2), 10.16 (JetPack 7.2)",
            source="[orin]",
        ),
        DeviceProfile(
            name="thor",
            title="Jetson AGX Thor 128 GB (MAXN)",
            matches=("thor",),
            capability=110,
            memory_bytes=int(122.8 * GIB),
            reserved_bytes=3 * GIB,
            peak_flops={"fp16": 258.75e12, "bf16": 258.75e12, "int8": 517.5e12, "fp8": 517.5e12, "fp32": 129.375e12},
            bandwidth=273e9,
            tensorrt="10.13 (JetPack 7.0, 7.1), 10.16 (JetPack 7.2)",
            source="[thor]",
        ),
        DeviceProfile(
            name="h200",
            title="NVIDIA H200 141 GB",
            matches=("h200",),
            capability=90,
            memory_bytes=int(140 * GIB),
            reserved_bytes=1 * GIB,
            peak_flops={"fp16": 989.5e12, "bf16": 989.5e12, "int8": 1979e12, "fp8": 1979e12, "fp32": 494.75e12},
            bandwidth=4.8e12,
            tensorrt="any (pip install tensorrt)",
            source="[hopper]",
        ),
    )
}
"""By name; adding a device is one entry."""


def profile_of(device_name: str) -> DeviceProfile | None:
    """The profile of a CUDA device or board by its name, as ``NVIDIA Jetson Orin Nano …``; None where none is known."""
    name = device_name.lower()
    return next((entry for entry in PROFILES.values() if any(text in name for text in entry.matches)), None)


def device_profile(device: CudaDevice | None) -> DeviceProfile | None:
    """The table's entry for a device: on a Jetson by the board's name (CUDA calls every Orin ``Orin``)."""
    if device is None:
        return None
    board = read_board()
    return profile_of(board.model) if board is not None else profile_of(device.name)
