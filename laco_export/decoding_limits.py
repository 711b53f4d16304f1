"""What a picture may take while it is read: pixels and bytes, asked of each frame's header before it is decoded.

A pixel limit alone does not bound memory. A picture one pixel wide takes twelve bytes a pixel, since Pillow keeps a
pointer for each row and no row below four bytes; a progressive JPEG holds all its coefficients; WebP's decoder draws on
two canvases. So the bytes that a picture of this format and mode takes are estimated, and bounded by
:data:`BYTES_A_PIXEL` for each allowed pixel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from .errors import ImageError

BYTES_A_PIXEL = 9
"""Of the largest picture, while it is read: 450 MB at 50 megapixels. Plain colours take 4, as Pillow keeps them;
transparent ones 8, which stand once with and once without their transparency."""

_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # else 4
_RESULT_BYTES = {"1": 1, "L": 1, "I": 1, "F": 1, "RGB": 0}  # of the grey or RGB picture beside it; else 4
_DECODER_BYTES = {"WEBP": 12, "AVIF": 7, "JPEG2000": 12}
"""Of a pixel, beside the picture itself: canvases, planes and the frame's bytes (measured:
``benchmarks/picture_cost.py``)."""
_COEFFICIENT_BYTES = 2
_ROW_BYTES, _SHORTEST_ROW = 8, 4

_lock = threading.Lock()
_limits: list[int] = []
_before: list[int | None] = []


def check_size(image: Image.Image, name: object, max_pixels: int) -> None:
    """Refuse a picture, or the frame that an animation stands at, that is not decoded yet.

    Raises:
        ImageError: it has more than ``max_pixels`` pixels, or takes more bytes than so many may.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise too_large(name, f"{width} x {height} = {width * height:,} pixels", f"at most {max_pixels:,} pixels")
    needed, allowed = bytes_to_read(image), BYTES_A_PIXEL * max_pixels
    if needed > max(allowed, 1 << 20):  # what a tiny limit is for is not to refuse tiny pictures
        raise too_large(
            name,
            f"{width} x {height} pixels, {image.format} in {image.mode}, which take {needed:,} bytes",
            f"at most {allowed:,} bytes, {BYTES_A_PIXEL} for each of {max_pixels:,} pixels",
        )


def too_large(name: object, measured: str, allowed: str) -> ImageError:
    """The error for a picture that is too large to decode."""
    return ImageError(
        f"picture '{name}' is too large to decode",
        given=measured,
        allowed=allowed,
        todo="scale it down, or raise --max-pixels",
    )


def bytes_to_read(image: Image.Image) -> int:
    """An estimate from above of what reading the picture takes at its peak, as RGB or grey of its full size."""
    width, height = image.size
    transparent = "A" in image.getbands() or "transparency" in image.info
    own = _MODE_BYTES.get(image.mode, 4)
    result = 4 if transparent else 1 if image.mode.startswith("I;16") else _RESULT_BYTES.get(image.mode, 4)
    rows = sum(max(_SHORTEST_ROW, width * part) + _ROW_BYTES for part in (own, result) if part)
    decoder = _DECODER_BYTES.get(image.format, 0)
    if "progressive" in image.info or "progression" in image.info:
        decoder += _COEFFICIENT_BYTES * len(image.getbands())
    return height * (rows + width * decoder)


@contextmanager
def pillows_limit(max_pixels: int) -> Iterator[None]:
    """Inside the block Pillow itself refuses what is larger, where it reads a size that nobody else sees: the canvas of
    an animation's next frame, a TIFF's tile.

    Pillow's limit is the process's. While several threads read, it is the largest of theirs; the last one puts back
    what was there before the first.
    """
    with _lock:
        if not _limits:
            _before[:] = [Image.MAX_IMAGE_PIXELS]
        _limits.append(max_pixels)
        Image.MAX_IMAGE_PIXELS = _pillows(max(_limits))
    try:
        yield
    finally:
        with _lock:
            _limits.remove(max_pixels)
            Image.MAX_IMAGE_PIXELS = _pillows(max(_limits)) if _limits else _before[0]


def _pillows(max_pixels: int) -> int:
    return (max_pixels + 1) // 2  # it warns above this, and refuses above twice this
