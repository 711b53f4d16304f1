"""Power by a Jetson's on-board sensors, and the energy of a piece of work.

The kernel shows each channel of an INA3221 as ``in<N>_label``, ``in<N>_input`` (mV) and ``curr<N>_input`` (mA) under
``/sys/class/hwmon``, and an INA238 (Thor's carrier board, the whole input) as ``power1_input`` (µW). Where a rail
carries everything (``VDD_IN`` of Orin Nano and NX, the INA238) it is the power; where none does (AGX Orin) the rails
are added, which leaves the carrier board out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from laco_export.machine import read_text

_INPUT = "VIN"
_WHOLE = ("VDD_IN", "POM_5V_IN", _INPUT)
_PERIOD_S = 0.02
"""Between samples: the sensors average over some milliseconds, and reading a rail takes about one."""


@dataclass(frozen=True)
class Rail:
    """A power rail: its label, and the files whose product is its power in microwatts (mV and mA, or µW alone)."""

    label: str
    files: tuple[Path, ...]

    def watts(self) -> float | None:
        """Now; None where the sensor does not answer, as a channel that is switched off."""
        try:
            return prod(int(file.read_text()) for file in self.files) / 1e6
        except (OSError, ValueError):
            return None


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """The rails whose sum is the power: the one that carries everything, or all."""
    rails = []
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        chip = read_text(monitor / "name")
        if chip == "ina238":
            rails.append(Rail(_INPUT, (monitor / "power1_input",)))
        elif chip == "ina3221":
            rails += _channels(monitor)
    answering = [rail for rail in rails if rail.watts() is not None]
    return next(([rail] for rail in answering if rail.label in _WHOLE), answering)


def _channels(monitor: Path) -> list[Rail]:
    rails = []
    for label_file in sorted(monitor.glob("in*_label")):
        number = label_file.name.removeprefix("in").removesuffix("_label")
        label = read_text(label_file)
        # Channel 7 is the sum of the shunt voltages; "NC" is a channel that is not connected.
        if number != "7" and label and "NC" not in label:
            rails.append(Rail(label, (monitor / f"in{number}_input", monitor / f"curr{number}_input")))
    return rails


@dataclass(frozen=True)
class Energy:
    """Of a piece of work: mean power over it, and its energy a picture.

    Attributes:
        rails: labels of what was added.
        samples: readings that the mean is of.
    """

    watts: float
    joules_per_image: float
    seconds: float
    samples: int
    rails: tuple[str, ...]


def measure_energy(
    work: Callable[[], None], images: int, rails: list[Rail], *, seconds: float = 2.0, period: float = _PERIOD_S
) -> Energy | None:
    """Repeat ``work`` for ``seconds`` while the rails are read beside it.

    Args:
        work: encodes ``images`` pictures.
        rails: from :func:`find_rails`.

    Returns:
        None where there are no rails or none answered.
    """
    if not rails:
        return None
    readings: list[float] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            watts = [rail.watts() for rail in rails]
            if None not in watts:
                readings.append(sum(watts))
            done.wait(period)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    start, runs = time.perf_counter(), 0
    try:
        while time.perf_counter() - start < seconds:
            work()
            runs += 1
    finally:
        elapsed = time.perf_counter() - start
        done.set()
        reader.join()
    if not readings:
        return None
    watts = sum(readings) / len(readings)
    return Energy(watts, watts * elapsed / (runs * images), elapsed, len(readings), tuple(rail.label for rail in rails))
