"""Which pictures judge and which are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from laco_export.bundle import Bundle

from ..errors import CalibrationError
from ..statistics.thresholds import METHODS
from .picture_set import Picture, Pictures, readable

JUDGES = 8
"""Pictures that errors are judged on: each costs a pass from every block on."""


@dataclass(frozen=True)
class Division:
    """The pictures of a calibration.

    Attributes:
        judging: the pictures that errors are judged on.
        tiles: the first tile of each, ``pixel_values [1, 3, H, W]``.
        looked_at: those that statistics are taken of.
        held_out: none is in both.
    """

    judging: tuple[Picture, ...]
    tiles: tuple[np.ndarray, ...]
    looked_at: tuple[Picture, ...]
    held_out: bool


def divide(pictures: Pictures, bundle: Bundle, *, limit: int | None, minimum: int) -> Division:
    """Evenly spaced readable pictures judge, the others are looked at; with too few that can be read all do both.

    Args:
        limit: at most so many pictures in all, evenly spaced.
        minimum: pictures that must be left to look at.

    Raises:
        CalibrationError: not one picture can be read.
    """
    found = pictures.found
    if limit is not None and len(found) > limit:
        found = [found[i] for i in _spread(len(found), limit)]
    first = _spread(len(found), min(JUDGES, len(found)))
    order = [found[i] for i in first] + [one for i, one in enumerate(found) if i not in set(first)]
    judges: list[tuple[Picture, list[np.ndarray]]] = []
    for picture in order:
        if len(judges) == min(JUDGES, len(found)):
            break
        judges += readable(pictures, bundle, [picture])
    if not judges:
        raise nothing_readable(pictures)
    judging = {picture.sha256 for picture, _ in judges}
    rest = (one for one in order if one.sha256 not in judging and str(one.path) not in pictures.broken)
    wanted = max(JUDGES, minimum)
    others = (one for one in rest if readable(pictures, bundle, [one]))
    held_out = sum(1 for _ in islice(others, wanted)) == wanted
    looked_at = [one for one in found if not (held_out and one.sha256 in judging)]
    return Division(
        tuple(picture for picture, _ in judges), tuple(tiles[0] for _, tiles in judges), tuple(looked_at), held_out
    )


def nothing_readable(pictures: Pictures) -> CalibrationError:
    """The error where every picture is broken."""
    return CalibrationError(
        "none of the pictures can be read",
        given=f"{len(pictures.broken)} broken: {pictures.describe_broken()}",
        todo="give pictures that open in an image viewer",
    )


def require_enough(readable: int, pictures: Pictures, method: str) -> None:
    """Raise :class:`CalibrationError` where ``readable`` pictures are fewer than ``method`` needs."""
    minimum = METHODS[method].minimum
    if readable < minimum:
        broken = f"; {len(pictures.broken)} could not be read: {pictures.describe_broken()}" if pictures.broken else ""
        raise CalibrationError(
            f"--method {method} needs more pictures",
            given=f"{readable} that can be read{broken}",
            allowed=f"at least {minimum}; a few hundred like those the model will see are better",
            todo="give more pictures, or --method max",
        )


def _spread(count: int, wanted: int) -> list[int]:
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()
