"""Pictures for measuring and for proof, drawn the same on every machine.

A checkpoint folder holds no pictures, so these stand in: a smooth gradient, noise, shapes on a flat ground, and a page
of text, which together reach flat, busy, saturated and high-contrast patches. Pictures like the user's own, given with
``--images``, measure ranges better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import CheckpointError, UsageError
from ..picture_files import picture_files
from ..preprocessing import ImagePreprocessing, load_image, open_picture

MAX_PICTURES = 16
"""Every picture costs a few passes of the encoder and its expected features in the bundle."""


@dataclass(frozen=True)
class PreparedPictures:
    """The pictures as the encoder takes them, in one order.

    Attributes:
        names: where each comes from.
        pixels: uint8 ``[H, W, 3]`` each, resized and cropped.
        pixel_values: float32 ``[1, 3, H, W]`` each, normalised.
        preprocessing: the checkpoint's, by which they were made.
    """

    names: list[str]
    pixels: list[np.ndarray]
    pixel_values: list[np.ndarray]
    preprocessing: ImagePreprocessing


def prepare_pictures(
    images: Sequence[tuple[str, Image.Image]], preprocessing: ImagePreprocessing, encoder_size: tuple[int, int]
) -> PreparedPictures:
    """Bring pictures to the encoder's input.

    Args:
        images: of :func:`golden_pictures`.
        encoder_size: height and width in pixels that the encoder takes.

    Raises:
        CheckpointError: the preprocessing makes pictures of another size than the encoder takes.
    """
    height, width = preprocessing.height, preprocessing.width
    if (height, width) != encoder_size:
        raise CheckpointError(
            "preprocessor_config.json and the encoder differ in the picture's size",
            given=f"{height} x {width} and {encoder_size}",
        )
    pixels = [preprocessing.resize_and_crop(image) for _, image in images]
    pixel_values = [preprocessing.normalize(cropped)[None] for cropped in pixels]
    return PreparedPictures([name for name, _ in images], pixels, pixel_values, preprocessing)


def golden_pictures(images: list[Path], size: int) -> list[tuple[str, Image.Image]]:
    """The pictures given by the user, else the drawn ones at ``size`` pixels, each with its name.

    Raises:
        UsageError: a folder without pictures, or more than :data:`MAX_PICTURES`; ImageError: one cannot be read.
    """
    if not images:
        return [(f"drawn: {name}", draw(max(size, 32))) for name, draw in _DRAWN.items()]
    return [(file.name, load_image(file)) for file in golden_files(images)]


def golden_files(images: list[Path]) -> list[Path]:
    """The files that ``--images`` names, each a picture by its header.

    Raises:
        UsageError: a folder without pictures, or more than :data:`MAX_PICTURES`; ImageError: a file is not there, or no
            picture.
    """
    files = picture_files(images)
    if len(files) > MAX_PICTURES:
        raise UsageError(
            "too many pictures for the comparison with PyTorch",
            given=f"{len(files)} files",
            allowed=f"at most {MAX_PICTURES}",
            todo="choose a few that are like those the model will see",
        )
    for file in files:
        with open_picture(file):
            pass
    return files


def _gradient(size: int) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    channels = (across, down, 0.5 + 0.5 * np.sin(6 * np.pi * across * down))
    return Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8))


def _noise(size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


def _shapes(size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), (238, 238, 228))
    draw, unit = ImageDraw.Draw(image), size / 16
    draw.rectangle([unit, unit, 6 * unit, 5 * unit], fill=(200, 30, 30))
    draw.ellipse([8 * unit, 2 * unit, 14 * unit, 8 * unit], fill=(20, 90, 200))
    draw.polygon([(2 * unit, 14 * unit), (5 * unit, 8 * unit), (8 * unit, 14 * unit)], fill=(20, 150, 60))
    for index in range(5):
        left = (9.5 + 1.2 * index) * unit
        draw.rectangle([left, (13 - index) * unit, left + unit, 14.5 * unit], fill=(0, 0, 0))
    return image


def _text(size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for row in range(0, size, 14):
        draw.text((2, row), f"{row:04d} The quick brown fox jumps over 13 lazy dogs. " * 2, fill="black", font=font)
    return image


_DRAWN = {"gradient": _gradient, "noise": _noise, "shapes": _shapes, "text": _text}
