"""Pixel values, by transformers' image processors, made from the checkpoint's own ``preprocessor_config.json``.

Pillow resizes on both sides, so that a fault of Pillow's is not seen. Two things differ on purpose and are left out:
JPEGs that an engine decodes smaller (:mod:`laco_export.scaled_decoding`; an export decodes them whole), and how a
picture more than 64 times as long as wide is resized: only its middle is, and the comparison begins behind that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...tiling import Tiling
from ..golden_pictures import PreparedPictures
from .independent_check import IndependentCheck, compare_cases

_LONGEST_WHOLE = 64  # the aspect ratio up to which a picture is resized as a whole
_TILED_SIZES = ((3.0, 1.9), (1.4, 3.0))
"""Width and height in tiles of a wide and a tall picture: grids of 2 x 3 and 3 x 2, where a model may take them."""


def check_pixel_values(
    checkpoint: Path, images: Sequence[tuple[str, Image.Image]], prepared: PreparedPictures
) -> IndependentCheck:
    """Compare the golden pictures' pixel values with those of transformers' ``CLIPImageProcessor``, or LLaVA's where
    they are padded to squares.

    Args:
        images: names and pictures before they were resized, RGB.
        prepared: the same, resized, cropped and normalised.

    Raises:
        ExportError: they differ.
    """
    from transformers import CLIPImageProcessor, LlavaImageProcessor

    stated = _stated(checkpoint)
    processor = (LlavaImageProcessor if stated.get("do_pad") else CLIPImageProcessor)(**stated)

    def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for (name, image), pixels, (values,) in zip(images, prepared.pixels, prepared.pixel_values, strict=True):
            whole = max(image.size) <= _LONGEST_WHOLE * min(image.size)
            source = np.asarray(image) if whole else pixels
            by_transformers = processor(source, input_data_format="channels_last", return_tensors="np")
            yield name, values, by_transformers.pixel_values[0]

    return compare_cases("pixel values", f"transformers' {type(processor).__name__}", cases())


def check_tiles(checkpoint: Path, prepared: PreparedPictures, tiling: Tiling) -> IndependentCheck:
    """Compare a golden picture made wide and made tall, tiled, with transformers' ``LlavaOnevisionImageProcessor``, or
    InternVL's where the grid is of the closest aspect ratio.

    Arguments and errors are those of :func:`check_pixel_values`.
    """
    processor = _tile_processor(_stated(checkpoint), tiling)

    def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for across, down in _TILED_SIZES:
            size = (int(across * tiling.tile), int(down * tiling.tile))
            picture = Image.fromarray(prepared.pixels[-1]).resize(size)
            tiles = tiling.split(picture, prepared.preprocessing)  # [1 + rows·columns, 3, tile, tile]
            by_transformers = processor(np.asarray(picture), input_data_format="channels_last", return_tensors="np")
            expected = by_transformers.pixel_values
            expected = expected[0] if tiling.rule == "anyres" else expected  # InternVL's has no axis of pictures
            yield f"{prepared.names[-1]} at {size[0]} x {size[1]} pixels", tiles, expected

    return compare_cases("tiles", f"transformers' {type(processor).__name__}", cases())


def _tile_processor(stated: Mapping, tiling: Tiling):
    """transformers' image processor of the tiling's rule."""
    from transformers import GotOcr2ImageProcessor, LlavaOnevisionImageProcessor

    values = {
        name: stated[name] for name in ("resample", "rescale_factor", "image_mean", "image_std") if name in stated
    }
    values["size"] = {"height": tiling.tile, "width": tiling.tile}
    if tiling.rule == "aspect_ratio":
        tiles = {"min_patches": tiling.min_tiles, "max_patches": tiling.max_tiles}
        return GotOcr2ImageProcessor(**values, **tiles, crop_to_patches=True)
    grids = tiling.grids or [(r, c) for r in range(1, tiling.max_rows + 1) for c in range(1, tiling.max_columns + 1)]
    pinpoints = [[rows * tiling.tile, columns * tiling.tile] for rows, columns in grids]
    return LlavaOnevisionImageProcessor(**values, image_grid_pinpoints=pinpoints)


def _stated(checkpoint: Path) -> Mapping:
    return json.loads((checkpoint / "preprocessor_config.json").read_bytes())
