"""Which pictures show something of their own: flat ones and near-copies are left out of a calibration.

Ranges are cut to what the pictures show. Twenty black pictures, or one scene twenty times, give ranges that cut off
everything else that the model will see, and judged by such pictures the loss looks like none. Pictures are compared by
thumbnails: of a JPEG they cost a few milliseconds, since it is decoded small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from laco_export.errors import ImageError
from laco_export.preprocessing import ImagePreprocessing, load_image

from .picture_set import PictureFile, PictureSet, reason_of

THUMBNAIL = 32
"""Pixels a side: smaller, and two pages of text in one layout become the same grey."""

FLAT_DEVIATION = 2.0
"""Standard deviation of a thumbnail's values around their channel's mean, of 255, up to which a picture is flat. Of
1,300 drawn ones, of objects, shapes, charts and writing, the flattest has 7.6; a JPEG of one colour stays below 1."""

NEAR_COPY = 0.1
"""The RMS difference of two thumbnails over the larger one's deviation from its mean, up to which one is a copy of the
other. A photograph is 0.006 … 0.04 from itself at another size or JPEG quality, 0.07 cropped by two of 600 pixels, 0.1
a twentieth brighter; the closest two of those 1,300 pictures, two bar charts, are 0.16 apart."""


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A picture at the encoder's size, uint8 ``[H, W, 3]``, as float32 ``[THUMBNAIL, THUMBNAIL, 3]``."""
    resized = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32)


def is_flat(thumb: np.ndarray) -> bool:
    """Whether the picture is of one colour."""
    return bool(thumb.std((0, 1)).max() <= FLAT_DEVIATION)


class Thumbnails:
    """Pictures to find copies among, by their thumbnails."""

    def __init__(self):
        self._rows = np.empty((64, THUMBNAIL * THUMBNAIL * 3), np.float32)
        self._squares, self._deviations = np.empty(64), np.empty(64)
        self._count = 0

    def add(self, thumb: np.ndarray) -> None:
        """Take in a thumbnail ``[THUMBNAIL, THUMBNAIL, 3]``."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._squares = np.concatenate([self._squares, np.empty_like(self._squares)])
            self._deviations = np.concatenate([self._deviations, np.empty_like(self._deviations)])
        row = thumb.reshape(-1)
        self._rows[self._count] = row
        self._squares[self._count], self._deviations[self._count] = np.square(row, dtype=np.float64).sum(), row.std()
        self._count += 1

    def copy_of(self, thumb: np.ndarray) -> int | None:
        """The number, in the order of :meth:`add`, of the picture that ``thumb`` is nearest to a copy of; None where
        it is a copy of none."""
        if not self._count:
            return None
        row, rows = thumb.reshape(-1), self._rows[: self._count]
        squares = self._squares[: self._count] + np.square(row, dtype=np.float64).sum() - 2.0 * (rows @ row)
        difference = np.sqrt(np.maximum(squares, 0) / row.size)
        # FP32 products of 3,072 values of up to 255 are exact to some 1e-3 of a level here.
        deviation = np.maximum(np.maximum(self._deviations[: self._count], row.std()), FLAT_DEVIATION)
        nearest = int(np.argmin(difference / deviation))
        return nearest if difference[nearest] <= NEAR_COPY * deviation[nearest] else None


def different_pictures(
    picture_set: PictureSet,
    pictures: Sequence[PictureFile],
    prepare: ImagePreprocessing,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[PictureFile], Thumbnails]:
    """Those of ``pictures`` that are neither flat nor a copy of one before them, and their thumbnails in that order.

    The others, and those that cannot be decoded, are noted in ``picture_set``.

    Args:
        prepare: the bundle's; thumbnails show what its crop leaves.
    """
    small = replace(prepare, height=THUMBNAIL, width=THUMBNAIL)
    kept_pictures, thumbnails = [], Thumbnails()
    for picture in pictures:
        advance()
        try:
            pixels = small.resize_and_crop(load_image(picture.path, resized_to=small.resized_to))
        except (ImageError, OSError) as error:
            picture_set.broken[str(picture.path)] = reason_of(error)
            continue
        thumb = pixels.astype(np.float32)
        if is_flat(thumb):
            picture_set.flat.append(str(picture.path))
        elif (original := thumbnails.copy_of(thumb)) is not None:
            picture_set.copies[str(picture.path)] = str(kept_pictures[original].path)
        else:
            kept_pictures.append(picture)
            thumbnails.add(thumb)
    return kept_pictures, thumbnails
