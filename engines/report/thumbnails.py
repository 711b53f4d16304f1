"""The pictures of a page: small enough that the page stays within a size, and inside it as data URLs.

All are read once, before any model is loaded, so that those that cannot be read are told at once; they are kept as JPEG
at the largest size, and made smaller where the page would become too large.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from laco_export.errors import ImageError
from laco_export.preprocessing import load_image

SIDES = (384, 256, 192, 128, 96, 64)
"""Longest sides in pixels that are tried, the largest first: a page shows pictures at up to 192 CSS pixels, which a
phone's or a laptop's screen draws with two of its own each."""
_QUALITY = 82  # of JPEG: no artefact is seen at that size


class PagePictures:
    """The pictures of a report.

    Args:
        pictures: their files; equal ones are kept once.
        advance: called for each.

    Raises:
        ImageError: pictures cannot be read; all of them are named.
    """

    def __init__(self, pictures: Sequence[Path], advance: Callable[[], None] = lambda: None):
        self._largest: dict[Path, bytes] = {}
        unreadable: dict[Path, str] = {}
        for picture in dict.fromkeys(pictures):
            try:
                image = load_image(picture, resized_to=_fitting)
            except ImageError as error:
                unreadable[picture] = error.failed
            else:
                self._largest[picture] = _jpeg(image, SIDES[0])
            advance()
        if unreadable:
            raise ImageError(
                f"{len(unreadable)} pictures cannot be read",
                given="; ".join(unreadable.values()),
                todo="repair them, or take their questions out",
            )

    def __len__(self) -> int:
        return len(self._largest)

    def within(self, most_bytes: int) -> tuple[int, dict[Path, str]] | None:
        """Data URLs of all pictures that take at most ``most_bytes`` together, and the longest side that they have.

        Returns:
            None where even the smallest take more.
        """
        for side in SIDES:
            urls = {picture: _data_url(_smaller(jpeg, side)) for picture, jpeg in self._largest.items()}
            if sum(map(len, urls.values())) <= most_bytes:
                return side, urls
        return None


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """The size that a picture of ``size`` is shown at, at most."""
    scale = min(1.0, SIDES[0] / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _smaller(jpeg: bytes, side: int) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        return jpeg if max(image.size) <= side else _jpeg(image, side)


def _jpeg(image: Image.Image, side: int) -> bytes:
    """The picture with its longest side at most ``side``; a smaller one keeps its size."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "jpeg", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
