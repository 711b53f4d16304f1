"""Pictures from disk to the encoder's input, with numpy and PIL only.

The same code prepares training batches, the exporter's golden pictures and a picture on a device, so that all of them
see the same bytes; but a JPEG of at least four times the input's size, which engines and calibration decode smaller
(:mod:`.scaled_decoding`). :class:`ImagePreprocessing` reads and writes transformers' ``preprocessor_config.json`` and
computes what ``CLIPImageProcessor`` computes (resize by PIL, centre crop, rescale, normalise), to the last bit (but for
pictures more than 64 times as long as wide, see :func:`_centre_band`).
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .decoding_limits import check_size, pillows_limit, too_large
from .errors import ConfigError, ImageError, LacoError
from .picture_files import PILLOW_FORMATS
from .scaled_decoding import Size, decode_upright, full_size, resize

MAX_PIXELS = 100_000_000
"""Pictures above this many pixels are refused from their header, before decoding (100 megapixels: 400 MB as RGB)."""

_SLIVER = 64  # the aspect ratio up to which a picture is resized as a whole: 21,504 x 336 pixels take 22 MB and 0.1 s

_BAND = 1 << 18  # pixels that are converted at once: 2 MB as float64

_ANY_SIZE = 1 << 62  # pixels

_MAKE_A_CANVAS = ("GIF", "WEBP", "AVIF")  # formats whose first frame has one when the file is opened

_RESIZES = ("shortest_edge", "squash", "pad")

_LARGEST_SQUARE = 8192  # pixels a side: 200 MB as RGB

_BICUBIC = 3  # PIL's Resampling.BICUBIC, the number that preprocessor_config.json holds


def load_image(
    source: str | os.PathLike | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    formats: Sequence[str] = PILLOW_FORMATS,
    resized_to: Callable[[Size], Size] | None = None,
) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    EXIF orientation is applied; CMYK, palette and grey are converted; 16-bit and float grey are scaled to 8 bit;
    transparency is laid over white.

    Args:
        max_pixels: and so many times :data:`~.decoding_limits.BYTES_A_PIXEL` bytes while it is read.
        name: what errors call the picture; None takes the path.
        formats: Pillow's names of those that are read.
        resized_to: for a picture that is only resized, by :class:`ImagePreprocessing` or tiling: from its size (width,
            height) to that. A JPEG is decoded smaller then (:mod:`.scaled_decoding`), and grey stays grey (``L``).

    Raises:
        ImageError: no such file, not a picture, truncated, or more than ``max_pixels`` pixels.
    """
    with open_picture(source, max_pixels=max_pixels, name=name, formats=formats) as image:
        upright = decode_upright(image, resized_to)
        return to_rgb(upright, keep_grey=resized_to is not None)


@contextmanager
def open_picture(
    source: str | os.PathLike | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    formats: Sequence[str] = PILLOW_FORMATS,
) -> Iterator[Image.Image]:
    """Pillow's picture with its header read and nothing decoded; what goes wrong inside the block is an ImageError.

    Arguments and errors are those of :func:`load_image`.
    """
    path = source if isinstance(source, (str, os.PathLike)) else None
    name = name or path or getattr(source, "name", "the given bytes")
    if path is not None and not Path(path).is_file():
        reason = "does not exist"
        if Path(path).exists():
            reason = "is a folder, not a picture" if Path(path).is_dir() else "is not a regular file"
        raise ImageError(f"'{name}' {reason}", allowed="a picture file", todo="check the path")
    try:
        with _quiet_pillow(), _open(source, _readable(formats), max_pixels) as image, pillows_limit(max_pixels):
            check_size(image, name, max_pixels)
            yield image
    except Image.DecompressionBombError as error:
        raise too_large(name, str(error).partition(",")[0], f"at most {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageError(f"'{name}' is not a picture", allowed=", ".join(_readable(formats))) from None
    except (LacoError, PermissionError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over in a damaged file
        raise ImageError(
            f"picture '{name}' cannot be decoded: {error}", todo="the file is damaged or cut off; get it again"
        ) from None


def _open(source: str | os.PathLike | BinaryIO, formats: list[str], max_pixels: int) -> Image.Image:
    """The picture with its header read, whatever size that states; but where opening makes a canvas, Pillow refuses."""
    try:
        with pillows_limit(_ANY_SIZE):
            return Image.open(source, formats=[name for name in formats if name not in _MAKE_A_CANVAS])
    except UnidentifiedImageError:
        with pillows_limit(max_pixels):
            return Image.open(source, formats=[name for name in formats if name in _MAKE_A_CANVAS])


def _readable(formats: Sequence[str]) -> list[str]:
    # Pillow also opens formats that it hands to other programs (EPS to Ghostscript): not for files from anyone.
    Image.init()
    return [name for name in formats if name in Image.OPEN]


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    # Some of its decoders also log what they then raise.
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def to_rgb(image: Image.Image, *, keep_grey: bool = False) -> Image.Image:
    """8-bit RGB of any of Pillow's modes, transparency over white.

    It is converted a band of rows at a time, so that no third copy of the whole stands beside it; what is so already
    is returned as it is.

    Args:
        keep_grey: grey without transparency becomes ``L``, a third of the bytes and of the work of resizing.
    """
    transparent = "A" in image.getbands() or "transparency" in image.info
    deep = image.mode.startswith("I") or image.mode == "F"  # I, I;16, I;16B, F: Pillow would clip at 255 where we scale
    grey = not transparent and (deep or image.mode in ("1", "L"))
    mode = "L" if grey and keep_grey else "RGB"
    if image.mode == mode and not transparent:
        return image
    full_scale = _full_scale(image) if deep else 255.0
    converted = Image.new(mode, image.size)
    converted.info = {name: value for name, value in image.info.items() if name != "transparency"}
    for top, band in _bands(image):
        converted.paste(_band_to_eight_bits(band, full_scale, deep, transparent).convert(mode), (0, top))
    return converted


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Rows of the picture, :data:`_BAND` pixels at a time, each with its place from the top."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _full_scale(image: Image.Image) -> float:
    """What white is in a picture of more than eight bits."""
    # 16-bit pictures come as I;16 or I with values up to 65535; a float picture is taken as 0 … 1.
    if image.mode != "F":
        return 65535.0
    largest = max(np.nan_to_num(np.asarray(band)).max(initial=0.0) for _, band in _bands(image))
    return 1.0 if largest <= 1.0 else 65535.0


def _band_to_eight_bits(band: Image.Image, full_scale: float, deep: bool, transparent: bool) -> Image.Image:
    if deep:
        values = np.nan_to_num(np.asarray(band).astype(np.float64))
        return Image.fromarray(np.clip(values * (255.0 / full_scale) + 0.5, 0, 255).astype(np.uint8))
    if transparent:
        band = band.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", band.size, (255, 255, 255, 255)), band)
    return band


@dataclass(frozen=True)
class ImagePreprocessing:
    """How a picture becomes ``pixel_values``.

    Attributes:
        height, width: the encoder's input, in pixels.
        resize: ``shortest_edge`` (keep the aspect ratio, then crop the centre; AIMv2, CLIP), ``squash`` (resize to
            the input's shape whatever the aspect ratio; SigLIP, InternViT) or ``pad`` (to a square in the mean colour,
            then squash; LLaVA).
        mean, std: per channel, on values in 0 … 1.
    """

    height: int
    width: int
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.resize not in _RESIZES:
            raise ConfigError("preprocessing.resize is unknown", given=self.resize, allowed=", ".join(_RESIZES))
        if self.height < 1 or self.width < 1:
            raise ConfigError("the picture's size must be positive", given=f"{self.height} x {self.width}")
        if self.resize != "squash" and self.height != self.width:
            raise ConfigError(f"{self.resize} needs a square input", given=f"{self.height} x {self.width}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                "image_mean and image_std need three values each, std above 0", given=(self.mean, self.std)
            )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Prepare one RGB picture of any size: float32 ``[3, height, width]``."""
        return self.normalize(self.resize_and_crop(image))

    def resized_to(self, size: Size) -> Size:
        """What :func:`load_image` asks: the least size (width, height) that a picture of ``size`` is resized to."""
        return self.width, self.height

    def resize_and_crop(self, image: Image.Image) -> np.ndarray:
        """The picture at the encoder's size: uint8 ``[height, width, 3]``."""
        if self.resize == "pad":
            image = pad_to_square(image, self.mean)
        if self.resize != "shortest_edge":
            return np.asarray(resize(image, (self.width, self.height)))
        whole = full_size(image)
        short, long = sorted(whole)
        scaled = max(1, int(self.height * long / short))
        size = (self.width, scaled) if whole[0] <= whole[1] else (scaled, self.height)
        # A 1 x 30000 picture must not become 336 x 10 million: of such a sliver only the middle is resized.
        box, size = _centre_band(whole, size, self.height)
        pixels = np.asarray(resize(image, size, box))
        top, left = (pixels.shape[0] - self.height) // 2, (pixels.shape[1] - self.width) // 2
        return pixels[top : top + self.height, left : left + self.width]

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[height, width, 3]`` to float32 ``[3, height, width]``."""
        values = (pixels.astype(np.float64) * (1 / 255)).astype(np.float32)
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))  # [3, height, width]

    def to_dict(self) -> dict:
        """The fields of transformers' ``preprocessor_config.json``."""
        crop = self.resize == "shortest_edge"
        exact = {"height": self.height, "width": self.width}
        return {
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.height} if crop else exact,
            "resample": _BICUBIC,
            "do_center_crop": crop,
            "crop_size": exact,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **({"do_pad": True} if self.resize == "pad" else {}),
        }

    @classmethod
    def from_dict(cls, config: Mapping) -> ImagePreprocessing:
        """Read the fields of a ``preprocessor_config.json``.

        Raises:
            ConfigError: a field is missing, or asks for what this code does not do (another filter, no rescaling).
        """
        try:
            size, mean, std = config["size"], config["image_mean"], config["image_std"]
        except KeyError as error:
            raise ConfigError(f"preprocessor_config.json has no field {error}") from None
        if config.get("resample", _BICUBIC) != _BICUBIC:
            raise ConfigError("preprocessor_config.json: resample", given=config["resample"], allowed="3 (bicubic)")
        if abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
            raise ConfigError(
                "preprocessor_config.json: rescale_factor", given=config["rescale_factor"], allowed="1/255"
            )
        if isinstance(size, Mapping) and "height" in size:
            height, width, resize = size["height"], size["width"], "pad" if config.get("do_pad") else "squash"
        else:
            edge = size["shortest_edge"] if isinstance(size, Mapping) else size
            crop = config.get("crop_size", edge)
            height, width = (crop["height"], crop["width"]) if isinstance(crop, Mapping) else (crop, crop)
            resize = "shortest_edge"
            if height != edge or width != edge:
                raise ConfigError("preprocessor_config.json: crop_size must equal size", given=f"{crop} and {size}")
        return cls(int(height), int(width), resize, tuple(map(float, mean)), tuple(map(float, std)))


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The picture in the middle of a square of its longer side, on the mean colour, as LLaVA's ``expand2square``.

    A picture longer than :data:`_LARGEST_SQUARE` is made smaller first, so that a sliver does not become gigabytes.

    Args:
        mean: per channel, on values in 0 … 1; cut off to whole levels of 255.
    """
    scale = _LARGEST_SQUARE / max(image.size)
    if scale < 1:
        image = resize(image, tuple(max(1, round(scale * length)) for length in image.size))
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(255 * value) for value in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def _centre_band(
    image_size: tuple[int, int], scaled_size: tuple[int, int], edge: int
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The part of the picture that the centre crop can see, and the size that it is resized to.

    The whole picture, and so transformers' bytes, up to an aspect ratio of :data:`_SLIVER`. Beyond it the middle with a
    margin wider than the bicubic filter: the same but for rounding, since Pillow holds a box's edges in single
    precision and chooses which axis to resize first by the sizes that it is given.
    """
    axis = 0 if scaled_size[0] > scaled_size[1] else 1
    long = scaled_size[axis]
    if long <= _SLIVER * edge:
        return (0, 0, *image_size), scaled_size
    margin = 2 * edge - (long - edge) % 2  # the same parity as the whole, so the centre falls on the same pixel
    first = (long - edge) // 2 - margin // 2
    last = first + edge + margin
    scale = image_size[axis] / long
    box = [0.0, 0.0, float(image_size[0]), float(image_size[1])]
    box[axis], box[axis + 2] = first * scale, last * scale
    size = list(scaled_size)
    size[axis] = last - first
    return tuple(box), tuple(size)
