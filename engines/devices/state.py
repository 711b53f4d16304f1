"""What a measurement must say of the machine it ran on: its device, clocks and power mode."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass

from laco_export.machine import command_output, cpu_name, usable_cpus

from .cuda import DeviceMissingError, find_device
from .jetson import read_board

_SMI_FIELDS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "power.limit", "driver_version")


@dataclass(frozen=True)
class MachineState:
    """The machine, as far as it says.

    Attributes:
        cpu: cores that may be used and the processor's name.
        gpu: the CUDA device's name and compute capability; None without one.
        board: of a Jetson: model, L4T, JetPack, power mode, clocks; else None.
        gpu_clocks: of a discrete GPU, by nvidia-smi: MHz and watts.
    """

    cpu: str
    gpu: str | None
    board: dict | None
    gpu_clocks: dict | None

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def summary(self) -> str:
        """One line for people."""
        parts = [self.cpu]
        if self.gpu:
            parts.append(self.gpu)
        if self.board:
            mode = f"{self.board['power_mode'] or 'unknown power mode'}"
            clock = self.board["gpu_clock_mhz"]
            parts.append(f"{self.board['model']}, JetPack {self.board['jetpack']}, {mode}")
            parts.append(f"GPU at {clock:.0f} MHz" if clock else "GPU clock not readable")
        elif self.gpu_clocks:
            parts.append(", ".join(f"{name} {value}" for name, value in self.gpu_clocks.items()))
        return "; ".join(parts)


def machine_state() -> MachineState:
    """Read it now."""
    try:
        device = find_device()
    except DeviceMissingError:
        device = None
    board = read_board()
    return MachineState(
        cpu=f"{len(usable_cpus())} {platform.machine()} cores, {cpu_name()}",
        gpu=f"{device.name} (compute capability {device.capability / 10:.1f})" if device else None,
        board=asdict(board) if board else None,
        gpu_clocks=gpu_clocks() if device is not None and board is None else None,
    )


def gpu_clocks() -> dict | None:
    """Clocks and power of the first discrete GPU by nvidia-smi; None where it does not say (a Jetson's does not)."""
    output = command_output(["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader", "--id=0"])
    values = [value.strip() for value in (output or "").strip().split("\n")[0].split(",")]
    if len(values) != len(_SMI_FIELDS):
        return None
    return {name: value for name, value in zip(_SMI_FIELDS, values) if "N/A" not in value} or None
