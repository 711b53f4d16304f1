"""JPEGs decoded at the scale that the encoder needs: 1/2, 1/4 or 1/8, by their own cosine transform.

A photograph of 12 megapixels becomes an input of 0.1. Decoding all of it is most of the work of a picture, and a JPEG's
8 x 8 blocks can be decoded as 4 x 4, 2 x 2 or one pixel: the mean of those that it stands for, to rounding. The rule
that keeps the accuracy: the decoded picture has at least **twice** the size, both ways, that it is resized to, so that
the bicubic filter still sees two pixels for each of its own and does the last halving.

The picture then says what it stands for (:func:`full_size`), so that tiles, aspect ratio and centre are those of the
whole, and :func:`resize` takes exactly its area: the last block of a row may stand for fewer pixels than the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageOps

OVERSAMPLING = 2
"""Of the decoded picture over the size that it is resized to, at least."""

_KEY = "laco_scaled"
_ORIENTATION = 0x0112
_MIRRORED = {2: (1, 0), 3: (1, 1), 4: (0, 1), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
"""EXIF orientation → whether turning the picture upright mirrors its x and y axis, after swapping them from 5 on."""

Size = tuple[int, int]


@dataclass(frozen=True)
class _Scaled:
    """What a picture that was decoded smaller stands for.

    Attributes:
        size: its own; a picture that was cropped or resized since has another, and stands for itself.
        full_size: of the whole.
        area: of its pixels that the whole takes, (left, top, right, bottom).
    """

    size: Size
    full_size: Size
    area: tuple[float, float, float, float]


def decode_upright(image: Image.Image, resized_to: Callable[[Size], Size] | None) -> Image.Image:
    """Decode an opened picture and turn it by its EXIF orientation.

    Args:
        resized_to: from the whole picture's size (width, height) to the size that it will be resized to; None decodes
            the whole.
    """
    orientation = image.getexif().get(_ORIENTATION, 1)
    stored_size, box = image.size, None
    if resized_to is not None:
        least = resized_to(_turned(stored_size, orientation))
        drafted = image.draft(None, tuple(OVERSAMPLING * length for length in _turned(least, orientation)))
        box = drafted and drafted[1]
    image.load()
    upright = image if orientation == 1 else ImageOps.exif_transpose(image)
    if box and image.size != stored_size:
        area = _upright_area(box[2:], image.size, orientation)
        upright.info[_KEY] = _Scaled(upright.size, _turned(stored_size, orientation), area)
    return upright


def full_size(image: Image.Image) -> Size:
    """(width, height) of the picture that ``image`` stands for: its own, unless it was decoded smaller."""
    scaled = _scaled(image)
    return scaled.full_size if scaled else image.size


def resize(image: Image.Image, size: Size, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Bicubic, as RGB.

    Args:
        box: the part (left, top, right, bottom), in pixels of :func:`full_size`; None takes all.
    """
    scaled = _scaled(image)
    if scaled:
        left, top, right, bottom = scaled.area
        across, down = ((right - left) / scaled.full_size[0], (bottom - top) / scaled.full_size[1])
        box = box or (0, 0, *scaled.full_size)
        box = (left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down)
    resized = image.resize(size, Image.Resampling.BICUBIC, box=box)
    return resized if resized.mode == "RGB" else resized.convert("RGB")


def _scaled(image: Image.Image) -> _Scaled | None:
    scaled = image.info.get(_KEY)
    return scaled if isinstance(scaled, _Scaled) and scaled.size == image.size else None


def _turned(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation >= 5 else size


def _upright_area(extent: tuple[float, float], size: Size, orientation: int) -> tuple[float, float, float, float]:
    """The area (0, 0, *extent) of a picture of ``size``, after it was turned upright."""
    (across, down), (width, height) = _turned(extent, orientation), _turned(size, orientation)
    mirrored_x, mirrored_y = _MIRRORED.get(orientation, (0, 0))
    left, top = (width - across) * mirrored_x, (height - down) * mirrored_y
    return left, top, left + across, top + down
