"""The pictures of a request: ``data:`` URLs, and http(s) ones that were fetched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from io import BytesIO
from urllib.parse import unquote_to_bytes

from PIL import Image

from laco_export.errors import ImageError
from laco_export.preprocessing import load_image
from laco_export.scaled_decoding import Size

from .errors import ApiError, request_error

_PILLOW_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "AVIF", "BMP")
"""OpenAI's four, and what else browsers show, but for ICO: Pillow decodes the PNG inside before its size can be
refused, and 420 KB took 580 MB. MPO is a phone's JPEG."""


def open_image_url(
    url: str,
    *,
    param: str,
    max_pixels: int,
    fetched: Mapping[str, bytes],
    resized_to: Callable[[Size], Size] | None = None,
) -> Image.Image:
    """The picture of an ``image_url``, upright RGB, for ``resized_to`` as :func:`load_image` reads it.

    Args:
        param: its place in the request, for messages.
        fetched: the bytes of http(s) URLs.

    Raises:
        ApiError: 400: it is no ``data:`` URL of a picture, or the picture cannot or may not be read.
    """
    data = fetched[url] if url in fetched else _decode_data_url(url, param)
    try:
        return load_image(
            BytesIO(data), max_pixels=max_pixels, name=param, formats=_PILLOW_FORMATS, resized_to=resized_to
        )
    except ImageError as error:
        raise request_error(error, param=param, code="invalid_image") from None


def is_remote(url: str) -> bool:
    """The URL names something that would have to be fetched."""
    return url[:8].lower().startswith(("http:", "https:"))


def _decode_data_url(url: str, param: str) -> bytes:
    scheme, _, rest = url.partition(":")
    header, comma, payload = rest.partition(",")
    if scheme.lower() != "data" or not comma:
        raise ApiError(
            400,
            f"{param}: this is no data: URL (given: {url[:40]!r}; allowed: data:image/png;base64,…)",
            param=param,
            code="invalid_image_url",
        )
    mime, *fields = header.lower().split(";")
    if not mime.startswith("image/") or fields[-1:] != ["base64"]:
        raise ApiError(
            400,
            f"{param}: the data: URL holds no picture in base64 (given: data:{header[:40]}; allowed: "
            "data:image/…;base64,…)",
            param=param,
            code="invalid_image_url",
        )
    try:
        # Some clients percent-encode "+", "/" and "=".
        return base64.b64decode(unquote_to_bytes(payload) if "%" in payload else payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            400, f"{param}: the picture's base64 is broken: {error}", param=param, code="invalid_image_url"
        ) from None
