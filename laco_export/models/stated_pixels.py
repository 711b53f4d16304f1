"""Are pictures prepared as an encoder's folder states? Asked of transformers' own image processor, when a model starts.

An export compares with the checkpoint's ``preprocessor_config.json``, which is written from what was read of the
encoder's. Were that misread, the two would agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import CheckpointError
from ..quiet import quiet_libraries
from .processing import LacoImageProcessor

_LARGEST_DIFFERENCE = 1e-4  # of values up to 3; one level of 255 is 1e-2, what float32 rounds 1e-6


def check_stated_pixels(encoder: Path, processor: LacoImageProcessor) -> None:
    """Compare a square picture of noise, which every way of resizing and cropping treats alike.

    Args:
        encoder: its folder; one without a ``preprocessor_config.json``, or of a class that transformers does not have,
            states nothing.
        processor: what the new model's pictures will be prepared by.

    Raises:
        CheckpointError: the pixel values differ.
    """
    theirs = _stated_processor(encoder)
    if theirs is None:
        return
    side = 2 * max(processor.preprocessing.height, processor.preprocessing.width)
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((side, side))
    written = LacoImageProcessor(**processor.to_dict())
    values, expected = (
        np.asarray(each(picture, return_tensors="np")["pixel_values"][0], np.float64) for each in (written, theirs)
    )
    same_size = values.shape == expected.shape
    difference = float(np.abs(values - expected).max()) if same_size else None
    if not same_size or not difference <= _LARGEST_DIFFERENCE:
        raise CheckpointError(
            f"pictures would not be prepared as '{encoder / 'preprocessor_config.json'}' states",
            given=f"pixel values that differ by up to {difference:.3g}" if same_size else f"{list(values.shape)}",
            allowed=f"those of transformers' {type(theirs).__name__}"
            + ("" if same_size else f", {list(expected.shape)}"),
            todo="state resample 3 (bicubic) and every other field in the file, as the encoder was trained; if that is "
            "there, report this with the file",
        )


def _stated_processor(encoder: Path):
    from transformers import AutoImageProcessor

    if not (encoder / "preprocessor_config.json").is_file():
        return None
    try:
        with quiet_libraries():
            return AutoImageProcessor.from_pretrained(
                encoder, use_fast=False, local_files_only=True, trust_remote_code=False
            )
    except Exception:  # transformers raises many kinds for a file that names no class of its own
        return None
