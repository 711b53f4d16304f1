"""The pictures of the stage ``distil``: those to train on, and those that the price is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..data import (
    BrokenSamples,
    Collator,
    ConversationDataset,
    DataError,
    DrawSampler,
    GroupedSampler,
    PictureCollator,
    PictureDataset,
    PixelEncoder,
    SampleEncoder,
    hold_out,
    open_pictures,
    with_one_picture,
)
from ..recipe import StageRecipe
from ..stages import padding_id

if TYPE_CHECKING:
    from laco_export.models import LacoProcessor


def open_stage_pictures(
    stage: StageRecipe, processor: LacoProcessor, data_folder: Path, *, seed: int
) -> tuple[ConversationDataset, PictureDataset]:
    """The samples to train on, and the pictures held out, whole.

    Pictures alone are cropped and flipped as the stage says. For a loss on the language model's predictions the samples
    are conversations about one picture, which is shown whole, as one tile.

    Raises:
        DataError: there are no pictures (no conversations), or they cannot be read.
    """
    recipe, path = stage.distillation, data_folder / stage.data
    parts, root = with_one_picture(path, seed=seed) if recipe.language_model else open_pictures(path, seed=seed)
    images = data_folder / stage.images if stage.images else root
    trained, aside = hold_out(parts, recipe.held_out, seed=seed)
    whole = PictureDataset(aside, images, PixelEncoder(processor))
    if recipe.language_model:
        encoder = SampleEncoder(processor, max_length=stage.max_length, tiled=False)
        return ConversationDataset(trained, images, encoder), whole
    cropping = PixelEncoder(processor, least_area=recipe.least_area, flips=recipe.flips)
    return PictureDataset(trained, images, cropping, seed=seed), whole


def order_and_collator(stage: StageRecipe, dataset: ConversationDataset, *, seed: int) -> tuple[GroupedSampler, object]:
    """The order of the samples of :func:`open_stage_pictures`, and what joins them."""
    size = stage.global_batch_size
    if isinstance(dataset, PictureDataset):
        return DrawSampler(dataset, global_batch_size=size, seed=seed), PictureCollator()
    sampler = GroupedSampler(dataset, global_batch_size=size, seed=seed, group_by=stage.group_by)
    return sampler, Collator(padding_id(dataset.encoder.processor))


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
