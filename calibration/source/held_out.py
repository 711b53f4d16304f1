"""Which pictures judge and which are observed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from laco_export.bundle import Bundle

from ..errors import CalibrationError
from .picture_set import PictureFile, PictureSet, readable

JUDGES = 8
"""Pictures that errors are judged on: each costs a pass from every block on."""


@dataclass(frozen=True)
class Division:
    """The pictures of a calibration.

    Attributes:
        judging: the pictures that errors are judged on.
        tiles: the first tile of each, ``pixel_values [1, 3, H, W]``.
        observed: those that statistics are taken of.
        held_out: none is in both.
    """

    judging: tuple[PictureFile, ...]
    tiles: tuple[np.ndarray, ...]
    observed: tuple[PictureFile, ...]
    held_out: bool


def divide(picture_set: PictureSet, bundle: Bundle, *, limit: int | None, minimum: int) -> Division:
    """Evenly spaced readable pictures judge, the others are observed; with too few that can be read all do both.

    Args:
        limit: at most so many pictures in all, evenly spaced.
        minimum: pictures that must be left to observe.

    Raises:
        CalibrationError: not one picture can be read.
    """
    pictures = picture_set.pictures
    if limit is not None and len(pictures) > limit:
        pictures = [pictures[i] for i in _spread(len(pictures), limit)]
    first = _spread(len(pictures), min(JUDGES, len(pictures)))
    order = [pictures[i] for i in first] + [picture for i, picture in enumerate(pictures) if i not in set(first)]
    judges: list[tuple[PictureFile, list[np.ndarray]]] = []
    for picture in order:
        if len(judges) == min(JUDGES, len(pictures)):
            break
        judges += readable(picture_set, bundle, [picture])
    if not judges:
        raise CalibrationError(
            "none of the pictures can be read",
            given=f"{len(picture_set.broken)} broken: {picture_set.describe_broken()}",
            todo="give pictures that open in an image viewer",
        )
    judging = {picture.sha256 for picture, _ in judges}
    rest = (
        picture for picture in order if picture.sha256 not in judging and str(picture.path) not in picture_set.broken
    )
    wanted = max(JUDGES, minimum)
    others = (picture for picture in rest if readable(picture_set, bundle, [picture]))
    held_out = sum(1 for _ in islice(others, wanted)) == wanted
    observed = [picture for picture in pictures if not (held_out and picture.sha256 in judging)]
    return Division(
        tuple(picture for picture, _ in judges), tuple(tiles[0] for _, tiles in judges), tuple(observed), held_out
    )


def require_enough(readable: int, picture_set: PictureSet, method: str, minimum: int) -> None:
    """Raise :class:`~..errors.CalibrationError` where ``readable`` pictures are fewer than ``method`` needs.

    Args:
        minimum: pictures that it needs.
    """
    if readable < minimum:
        broken = picture_set.broken
        unread = f"; {len(broken)} could not be read: {picture_set.describe_broken()}" if broken else ""
        raise CalibrationError(
            f"--method {method} needs more pictures",
            given=f"{readable} that can be read{unread}",
            allowed=f"at least {minimum}; a few hundred like those the model will see are better",
            todo="give more pictures, or --method max",
        )


def _spread(count: int, wanted: int) -> list[int]:
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()
