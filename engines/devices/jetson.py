"""A Jetson board, read from the system's own files and tools: model, L4T and JetPack, power mode, clocks, memory.

Nothing is assumed: what a file does not say is None. Nothing is changed either; the power mode and the clocks are the
user's (``sudo nvpmodel -m 0``, ``sudo jetson_clocks``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.machine import command_output, device_tree_model, read_text, total_memory

_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: ([\d.]+)")
_JETPACK = {
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5": "6.2.2",
    "36.5.2": "6.2.3",
    "38.2": "7.0",
    "38.2.1": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
    "39.2.1": "7.2.1",
}
"""L4T release -> JetPack, from NVIDIA's JetPack archive. A release that is not in it gives the major version only."""
_JETPACK_MAJOR = {"35": "5", "36": "6", "38": "7", "39": "7"}


@dataclass(frozen=True)
class Board:
    """A Jetson.

    Attributes:
        model: as the device tree names it.
        l4t: release of Jetson Linux, ``36.4.3``; None where /etc/nv_tegra_release does not say.
        jetpack: ``6.2``, or ``6.x`` for a release that this table does not have.
        memory_bytes: as Linux counts it.
        power_mode: nvpmodel's name of it, as ``MAXN_SUPER``; None where nvpmodel does not say.
        gpu_clock_mhz, gpu_clock_max_mhz: of the GPU, now and at most in this power mode.
    """

    model: str
    l4t: str | None
    jetpack: str | None
    memory_bytes: int | None
    power_mode: str | None
    gpu_clock_mhz: float | None
    gpu_clock_max_mhz: float | None


def read_board(root: Path = Path("/"), run: Callable[[Sequence[str]], str | None] | None = None) -> Board | None:
    """The board that this is; None where it is no Jetson.

    Args:
        root: of the file system, for tests.
        run: a command's output or None, for tests; default: run it.
    """
    run = run or command_output
    model = read_model(root)
    if model is None:
        return None
    l4t = read_l4t(root)
    clock, highest = _gpu_clock(root)
    return Board(
        model=model,
        l4t=l4t,
        jetpack=_jetpack(l4t),
        memory_bytes=total_memory(root),
        power_mode=_power_mode(run(["nvpmodel", "-q"])),
        gpu_clock_mhz=clock,
        gpu_clock_max_mhz=highest,
    )


def read_model(root: Path = Path("/")) -> str | None:
    """The board's name in the device tree; ``Jetson`` where only its release file says that it is one; else None."""
    model = device_tree_model(root)
    if read_text(root / "etc/nv_tegra_release") is not None:
        return model or "Jetson"
    return model if model is not None and "jetson" in model.lower() else None


def read_l4t(root: Path = Path("/")) -> str | None:
    """The release of Jetson Linux, ``36.4.3``; None where /etc/nv_tegra_release does not say."""
    match = _RELEASE.search(read_text(root / "etc/nv_tegra_release") or "")
    return f"{match[1]}.{match[2]}".removesuffix(".0") if match else None


def _jetpack(l4t: str | None) -> str | None:
    if l4t is None:
        return None
    major = _JETPACK_MAJOR.get(l4t.split(".")[0])
    return _JETPACK.get(l4t) or (f"{major}.x" if major else None)


def _power_mode(output: str | None) -> str | None:
    match = re.search(r"NV Power Mode: (\S+)", output or "")
    return match[1] if match else None


def _gpu_clock(root: Path) -> tuple[float | None, float | None]:
    """The GPU's devfreq node (``17000000.gpu`` on Orin, ``gpu-gpc-0`` on Thor), in MHz."""
    folder = root / "sys/class/devfreq"
    nodes = sorted(folder.glob("*gpu*")) if folder.is_dir() else []
    for node in nodes:
        now, highest = read_text(node / "cur_freq"), read_text(node / "max_freq")
        if now and now.isdigit():
            return int(now) / 1e6, int(highest) / 1e6 if highest and highest.isdigit() else None
    return None, None
