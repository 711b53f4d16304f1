"""The pictures of the stage ``distil``: those to train on, and those that the price is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..data import BrokenSamples, DataError, PictureCollator, PictureDataset, PictureEncoder, hold_out, open_pictures
from ..recipe import StageRecipe

if TYPE_CHECKING:
    from laco_export.models import LacoProcessor


def open_stage_pictures(
    stage: StageRecipe, processor: LacoProcessor, data_folder: Path, *, seed: int
) -> tuple[PictureDataset, PictureDataset]:
    """The pictures to train on, cropped and flipped as the stage says, and those held out, whole.

    Raises:
        DataError: there are no pictures, or they cannot be read.
    """
    recipe = stage.distillation
    parts, root = open_pictures(data_folder / stage.data, seed=seed)
    images = data_folder / stage.images if stage.images else root
    trained, aside = hold_out(parts, recipe.held_out, seed=seed)
    cropping = PictureEncoder(processor, least_area=recipe.least_area, flips=recipe.flips)
    return PictureDataset(trained, images, cropping, seed=seed), PictureDataset(
        aside, images, PictureEncoder(processor)
    )


def held_out_batches(aside: PictureDataset, size: int, broken: BrokenSamples) -> Sequence[Tensor]:
    """The readable pictures held out, in batches of ``pixel_values [size, 3, H, W]``.

    Raises:
        DataError: none can be read, or more are broken than allowed.
    """
    samples = [aside[place] for place in range(len(aside))]
    for sample in samples:
        broken.record(sample["notes"])
    whole = [sample for sample in samples if not sample["notes"].broken]
    if not whole:
        raise DataError("none of the pictures held out can be read", given=f"{len(samples)} pictures")
    collate = PictureCollator()
    return [collate(whole[first : first + size])["pixel_values"] for first in range(0, len(whole), size)]
