"""``--device``: the one that is here, TensorRT-RTX's compute capabilities, or one that is only known of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from laco_export.errors import LacoError, UsageError

from ..cost.graph_cost import GraphCost
from ..devices.cuda import CudaDevice, DeviceMissingError, find_device, present_device
from ..devices.profiles import PROFILES, DeviceProfile, device_profile
from ..packages import library_version

RTX = "rtx"
RTX_CAPABILITIES = (75, 80, 86, 89, 120, 121)
"""TensorRT-RTX 1.7's: Turing, Ampere (not Orin's 87), Ada, Blackwell (not Thor's 110); neither is Hopper's 90."""


TURING = 75
"""TensorRT-RTX 1.7 compiles no FP32 and no BF16 matrix product for it: "Cannot compile operation … for Turing (SM75):
FP32 GEMM is not supported"."""


class DeviceElsewhereError(LacoError):
    """An engine was asked for a device that is not here."""


class BuilderMissingError(LacoError):
    """No TensorRT that could build here."""


@dataclass(frozen=True)
class BuildDevice:
    """What an engine is built for.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library.
        cuda: what is here and built for; None for TensorRT-RTX without a device.
        compute_capabilities: for TensorRT-RTX.
        profile: peaks and memory where the device is a known one.
        all_capabilities: nobody named compute capabilities, so those that cannot hold a graph may be left out.
    """

    library: str
    version: str
    cuda: CudaDevice | None
    compute_capabilities: tuple[int, ...]
    profile: DeviceProfile | None
    all_capabilities: bool = False

    def for_graph(self, cost: GraphCost) -> BuildDevice:
        """The same without Turing where a graph multiplies in another type than FP16 or INT8."""
        if not self.all_capabilities or not _not_on_turing(cost):
            return self
        return replace(self, compute_capabilities=tuple(c for c in self.compute_capabilities if c != TURING))

    def why_left_out(self, cost: GraphCost) -> str:
        """Why :meth:`for_graph` leaves Turing out."""
        kinds = " or ".join(kind.upper() for kind in _not_on_turing(cost))
        return (
            f"TensorRT-RTX compiles no {kinds} product for it, as this graph has; laco-export --fp16 makes one without"
        )

    @property
    def identity(self) -> str:
        """What goes into the key; empty without a device."""
        return "" if self.cuda is None else self.cuda.identity

    @property
    def system(self) -> str:
        """The JetPack that goes into the key; empty elsewhere."""
        return "" if self.cuda is None else self.cuda.system

    @property
    def title(self) -> str:
        """For people."""
        if self.cuda is not None:
            here = f"{self.cuda.board or self.cuda.name} (compute capability {self.cuda.capability / 10:.1f})"
            return f"{here}, {self.cuda.system}" if self.cuda.system else here
        return "compute capability " + ", ".join(f"{number / 10:.1f}" for number in self.compute_capabilities)


def _not_on_turing(cost: GraphCost) -> list[str]:
    return sorted(set(cost.flops) - {"fp16", "int8"})


def resolve_device(name: str | None, capabilities: tuple[int, ...] = ()) -> BuildDevice | DeviceProfile:
    """What ``--device`` asks for.

    Args:
        name: None for the device that is here, ``rtx``, or a name of the device table.
        capabilities: for ``rtx``: the compute capabilities to build for; default: the device's that is here where
            TensorRT-RTX takes it, else all of :data:`RTX_CAPABILITIES`.

    Returns:
        what to build for; or, for a known device that is not here, its profile, to estimate with.

    Raises:
        UsageError: an unknown name or capability.
        BuilderMissingError: no TensorRT that could build here.
        DeviceMissingError: no name was given and there is no device.
    """
    if name not in (None, RTX, *PROFILES):
        raise UsageError("--device is unknown", given=name, allowed=", ".join((*PROFILES, RTX)))
    if capabilities and name != RTX:
        raise UsageError("--compute-capability belongs to --device rtx", given=", ".join(map(str, capabilities)))
    if name == RTX:
        return _rtx(present_device(), capabilities)
    if name is None:
        return _here(_required_device())
    device = present_device()
    profile = PROFILES[name]
    if device is None or device_profile(device) != profile:
        return profile
    return _here(device)


def _required_device() -> CudaDevice:
    try:
        return find_device()
    except DeviceMissingError as error:
        raise DeviceMissingError(
            f"an engine is built on the device that will run it; {error.failed}",
            todo="run this on the device, or: --device rtx builds for TensorRT-RTX without one, "
            f"--device {'|'.join(PROFILES)} estimates",
        ) from None


def _here(device: CudaDevice) -> BuildDevice:
    installed = library_version("tensorrt")
    if installed is not None:
        return BuildDevice("tensorrt", installed, device, (), device_profile(device))
    if device.capability in RTX_CAPABILITIES and library_version("tensorrt_rtx"):
        return _rtx(device, ())
    raise BuilderMissingError(
        f"no TensorRT is installed that builds for {device.name}",
        todo="on a Jetson: sudo apt install tensorrt python3-libnvinfer; else: pip install tensorrt"
        + (" or tensorrt-rtx" if device.capability in RTX_CAPABILITIES else ""),
    )


def _rtx(device: CudaDevice | None, capabilities: tuple[int, ...]) -> BuildDevice:
    wrong = [number for number in capabilities if number not in RTX_CAPABILITIES]
    if wrong:
        raise UsageError(
            "TensorRT-RTX does not build for this compute capability",
            given=", ".join(map(str, wrong)),
            allowed=", ".join(map(str, RTX_CAPABILITIES)),
        )
    installed = library_version("tensorrt_rtx")
    if installed is None:
        raise BuilderMissingError(
            "TensorRT-RTX is not installed", todo="pip install tensorrt-rtx (Linux x86-64, Windows)"
        )
    here = device if device is not None and device.capability in RTX_CAPABILITIES else None
    if capabilities and (here is None or capabilities != (here.capability,)):
        here = None  # built for devices elsewhere
    chosen = capabilities or ((here.capability,) if here is not None else RTX_CAPABILITIES)
    every = not capabilities and here is None
    return BuildDevice("tensorrt_rtx", installed, here, tuple(sorted(set(chosen))), device_profile(here), every)
