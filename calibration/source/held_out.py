"""Which pictures judge and which are observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from laco_export.bundle import Bundle
from laco_export.golden import read_golden

from ..errors import CalibrationError
from .picture_set import PictureFile, PictureSet, readable
from .variety import different_pictures, thumbnail

JUDGES = 8
"""Pictures that errors are judged on: each costs a pass from every block on."""


@dataclass(frozen=True)
class Division:
    """The pictures of a calibration.

    Attributes:
        judging: the pictures that errors are judged on.
        tiles: the first tile of each, ``pixel_values [1, 3, H, W]``.
        observed: those that statistics are taken of.
        golden: how many golden pictures the bundle has.
        golden_seen: the names of those that are observed too, or nearly.
    """

    judging: tuple[PictureFile, ...]
    tiles: tuple[np.ndarray, ...]
    observed: tuple[PictureFile, ...]
    golden: int
    golden_seen: tuple[str, ...]

    @property
    def held_out(self) -> tuple[PictureFile, ...]:
        """Those of ``judging`` that are not observed."""
        observed = {picture.sha256 for picture in self.observed}
        return tuple(picture for picture in self.judging if picture.sha256 not in observed)


def divide(
    picture_set: PictureSet,
    bundle: Bundle,
    *,
    limit: int | None,
    minimum: int,
    advance: Callable[[], None] = lambda: None,
) -> Division:
    """Evenly spaced pictures judge, the others are observed.

    With fewer than twice :data:`JUDGES` pictures all judge, up to that number, and a quarter of them, at least one, is
    not observed; where not even ``minimum`` would be left to observe then, every one is observed too.

    Args:
        limit: look at so many pictures at most, evenly spaced.
        minimum: different pictures that must be left to observe.
        advance: called after each picture that was looked at.

    Raises:
        CalibrationError: not one picture can be read, or all that can are of one colour.
    """
    pictures = picture_set.pictures
    if limit is not None and len(pictures) > limit:
        pictures = [pictures[i] for i in _spread(len(pictures), limit)]
    different, thumbnails = different_pictures(picture_set, pictures, bundle.manifest.image_preprocessing, advance)
    first = _spread(len(different), min(JUDGES, len(different)))
    order = [different[i] for i in first] + [picture for i, picture in enumerate(different) if i not in set(first)]
    judges: list[tuple[PictureFile, list[np.ndarray]]] = []
    for picture in order:
        if len(judges) == JUDGES:
            break
        judges += readable(picture_set, bundle, [picture])
    if not judges:
        raise _nothing_to_see(picture_set)
    whole = [picture for picture in different if str(picture.path) not in picture_set.broken]
    judging = tuple(picture for picture, _ in judges)
    unobserved = {judging[i].sha256 for i in _spread(len(judging), _number_held_out(len(whole), minimum))}
    observed = tuple(picture for picture in whole if picture.sha256 not in unobserved)
    golden = read_golden(bundle)
    copied = [thumbnails.copy_of(thumbnail(pixels)) for pixels in golden.pictures]
    golden_seen = [name for name, copy in zip(golden.names, copied) if copy is not None and different[copy] in observed]
    return Division(judging, tuple(tiles[0] for _, tiles in judges), observed, len(golden.names), tuple(golden_seen))


def _number_held_out(pictures: int, minimum: int) -> int:
    """How many of so many different pictures only judge."""
    wanted = JUDGES if pictures >= 2 * JUDGES else max(1, pictures // 4)
    return wanted if pictures - wanted >= minimum else 0


def _nothing_to_see(picture_set: PictureSet) -> CalibrationError:
    if picture_set.flat:
        return CalibrationError(
            "the pictures show nothing: all that can be read are of one colour",
            given=f"{picture_set.describe_left_out()}; {len(picture_set.broken)} that cannot be read",
            allowed="real pictures like those the model will see: ranges are cut to what the pictures show",
            todo="give other pictures",
        )
    return CalibrationError(
        "none of the pictures can be read",
        given=f"{len(picture_set.broken)} broken: {picture_set.describe_broken()}",
        todo="give pictures that open in an image viewer",
    )


def require_enough(different: int, picture_set: PictureSet, method: str, minimum: int) -> None:
    """Raise :class:`~..errors.CalibrationError` where ``different`` pictures are fewer than ``method`` needs.

    Args:
        minimum: pictures that it needs.
    """
    if different < minimum:
        broken, left_out = picture_set.broken, picture_set.describe_left_out()
        unread = f"; {len(broken)} could not be read: {picture_set.describe_broken()}" if broken else ""
        raise CalibrationError(
            f"--method {method} needs more pictures that differ from each other",
            given=f"{different} that can be read{f'; left out {left_out}' if left_out else ''}{unread}",
            allowed=f"at least {minimum}: ranges are cut to what the pictures show, and cut off what others hold; "
            "a few hundred like those the model will see are better",
            todo="give more pictures, of other scenes",
        )


def _spread(count: int, wanted: int) -> list[int]:
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()
