"""A temperature, a power or another number that a file of the system holds, and the limit that it is to stay below.

::

    watched = WatchedValue.parse("/sys/class/thermal/thermal_zone0/temp=70000")     # in m°C, as the kernel writes it
    watched = WatchedValue.parse("power=12")                                        # watts, by the board's sensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from laco_export.errors import UsageError

from .power import find_rails

POWER = "power"
_LONGEST = 64  # bytes of a file that holds a number


@dataclass(frozen=True)
class WatchedValue:
    """What is watched.

    Attributes:
        name: the file, or :data:`POWER`.
        limit: in the unit of what is read.
        read: its value now; None where it does not answer.
    """

    name: str
    limit: float
    read: Callable[[], float | None]

    @classmethod
    def parse(cls, text: str, root: Path = Path("/")) -> WatchedValue:
        """Read ``FILE=LIMIT`` or ``power=WATTS``.

        Args:
            root: of the file system with the power sensors, for tests.

        Raises:
            UsageError: it is neither, the file holds no number, or the board shows no power sensor.
        """
        name, joint, number = text.rpartition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = float("nan")
        if not joint or not name or not 0 < limit < float("inf"):
            raise UsageError(
                "--keep-below is no limit of something",
                given=text,
                allowed=f"FILE=NUMBER, as /sys/class/thermal/thermal_zone0/temp=70000, or {POWER}=WATTS",
            )
        if name == POWER:
            if not (rails := find_rails(root)):
                raise UsageError(
                    "--keep-below power: this machine shows no power sensor (INA3221 or INA238)",
                    todo="give a file that holds the number: --keep-below FILE=LIMIT",
                )
            return cls(name, limit, lambda: _sum_of([rail.watts() for rail in rails]))
        if _number_in(Path(name)) is None:
            raise UsageError(f"--keep-below: '{name}' holds no number", allowed="a file with one number in it")
        return cls(name, limit, lambda: _number_in(Path(name)))


def _sum_of(watts: list[float | None]) -> float | None:
    return None if None in watts else sum(watts)


def _number_in(path: Path) -> float | None:
    try:
        with open(path, encoding="ascii") as file:
            value = float(file.read(_LONGEST))
    except (OSError, ValueError):
        return None
    return value if abs(value) < float("inf") else None
