"""The CUDA device, by NVIDIA's own bindings (``cuda-bindings``): no torch, no compiler, no toolkit.

They were chosen over Polygraphy's wrapper because a runtime here needs what that lacks: pinned memory, graph capture
and the device's properties; and over pycuda and cupy because they bind the runtime and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from laco_export.errors import LacoError

from .jetson import read_l4t, read_model


class DeviceMissingError(LacoError):
    """There is no CUDA device that can be used, and why."""


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device that is here.

    Attributes:
        name: as the driver gives it, ``NVIDIA GeForce RTX 4090`` or ``Orin``.
        capability: compute capability, 89 for 8.9.
        total_bytes, free_bytes: of device memory; on a Jetson the whole system's.
        integrated: it shares the CPU's memory.
        driver: the newest CUDA version that the driver takes, ``12.6``.
        multiprocessors: how many.
        board: of a Jetson, its model as the device tree names it; else empty.
        l4t: of a Jetson, its release of Jetson Linux; else, and where it is not readable, empty.
    """

    name: str
    capability: int
    total_bytes: int
    free_bytes: int
    integrated: bool
    driver: str
    multiprocessors: int = 0
    board: str = ""
    l4t: str = ""

    @property
    def identity(self) -> str:
        """What an engine is matched by. CUDA calls every Orin ``Orin``, so its size and its board belong to it."""
        memory = f"{round(self.total_bytes / (1 << 30))} GiB"
        parts = (f"{self.name} sm_{self.capability}", f"{self.multiprocessors} multiprocessors", memory, self.board)
        return ", ".join(part for part in parts if part)

    @property
    def system(self) -> str:
        """The system image whose driver an engine was built with, ``L4T 36.4.3``; empty where there is none to name."""
        return f"L4T {self.l4t}" if self.l4t else ""


def cuda_runtime():
    """NVIDIA's runtime bindings.

    Raises:
        DeviceMissingError: they are not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise DeviceMissingError(
            "NVIDIA's CUDA bindings for Python are not installed", todo="pip install cuda-bindings"
        ) from None
    return runtime


def check_call(result: tuple):
    """The values of a call of the bindings, which return ``(error, *values)``.

    Raises:
        DeviceMissingError: the call failed; the message is CUDA's name of the error.
    """
    error, *values = result
    if int(error) != 0:
        raise DeviceMissingError(f"a CUDA call failed: {error.name}")
    return values[0] if len(values) == 1 else tuple(values)


def find_device(runtime=None, root: Path = Path("/")) -> CudaDevice:
    """The first CUDA device (``CUDA_VISIBLE_DEVICES`` chooses another).

    Args:
        runtime: for tests; default: :func:`cuda_runtime`.
        root: of the file system that a Jetson's board is read from, for tests.

    Raises:
        DeviceMissingError: no bindings, no driver, or no device; looked for before TensorRT is asked, which would fail
            with an obscure ``TypeError`` or crash.
    """
    runtime = runtime or cuda_runtime()
    error, count = runtime.cudaGetDeviceCount()
    if int(error) or not count:
        reason = {35: "no NVIDIA driver is loaded", 100: "the driver finds no device"}.get(int(error), error.name)
        raise DeviceMissingError(f"there is no CUDA device here: {reason if int(error) else 'none is visible'}")
    properties = check_call(runtime.cudaGetDeviceProperties(0))
    free, total = check_call(runtime.cudaMemGetInfo())
    version = check_call(runtime.cudaDriverGetVersion())
    name = properties.name
    return CudaDevice(
        name=(name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
        capability=10 * properties.major + properties.minor,
        total_bytes=int(total),
        free_bytes=int(free),
        integrated=bool(properties.integrated),
        driver=f"{version // 1000}.{version % 1000 // 10}",
        multiprocessors=int(properties.multiProcessorCount),
        board=read_model(root) or "",
        l4t=read_l4t(root) or "",
    )


def present_device() -> CudaDevice | None:
    """The CUDA device that is here, or None."""
    try:
        return find_device()
    except DeviceMissingError:
        return None
