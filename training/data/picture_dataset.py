"""Pictures alone as samples: cropped and flipped by chance, the same chance for every process and every resumption.

::

    draw ─▶ pass, index ─▶ picture ─▶ a random part of it ─▶ the encoder's own preprocessing ─▶ pixel_values [3, H, W]

A draw is a number that stands for one picture in one pass: what is random of a sample is drawn from it and the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import exp, log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from laco_export.layout_rules import SINGLE_TILE

from .broken import BatchNotes
from .conversations import image_names
from .dataset import ConversationDataset
from .errors import DataError
from .mixture import MixturePart
from .pictures import Pictures
from .sampler import GroupedSampler

if TYPE_CHECKING:
    from laco_export.models.processing import LacoProcessor

ASPECT = 4 / 3
"""A crop's sides are to each other as 3:4 to 4:3, as in the random resized crops that encoders are trained with."""
_TRIES = 10  # crops that are drawn until one lies inside the picture; then it is taken whole


class PixelEncoder:
    """A sample's picture to pixels.

    Args:
        processor: the checkpoint's; a picture is one tile.
        least_area: of a crop, as a share of the picture's; 1 takes every picture whole.
        flips: mirror every other picture, its text too.
    """

    def __init__(self, processor: LacoProcessor, *, least_area: float = 1.0, flips: bool = False):
        self.processor, self.least_area, self.flips = processor, least_area, flips
        self.tokenizer = processor.tokenizer

    def __call__(
        self, entry: Mapping, pictures: Pictures, random: np.random.Generator, odd: set[str] | None = None
    ) -> tuple[dict[str, torch.Tensor], bool]:
        """``{"pixel_values": float32 [1, 3, H, W]}``, and False: nothing is cut off.

        Of a sample with several pictures one is drawn.

        Args:
            odd: gets what is odd about the pictures' names, of :data:`~.causes.ODDITIES`.

        Raises:
            DataError, ImageError: it has none, or it cannot be read.
        """
        names = image_names(entry, odd)
        if not names:
            raise DataError("it has no picture")
        picture = pictures.picture(names[random.integers(len(names))])
        if self.least_area < 1:
            picture = picture.crop(random_box(*picture.size, random, self.least_area))
        if self.flips and random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return {"pixel_values": torch.from_numpy(self.processor.tiles(picture, SINGLE_TILE))}, False

    def estimated_tokens(self, pictures: np.ndarray, text_lengths: np.ndarray) -> np.ndarray:
        """All pictures are alike."""
        return np.ones(len(pictures), np.int64)


def random_box(
    width: int, height: int, random: np.random.Generator, least_area: float, aspect: float = ASPECT
) -> tuple[int, int, int, int]:
    """A random part of a picture: (left, top, right, bottom).

    Args:
        least_area: its area is uniform between this share of the picture's and all of it.
        aspect: its sides' ratio is log-uniform between 1 / aspect and aspect.
    """
    for _ in range(_TRIES):
        area = width * height * random.uniform(least_area, 1)
        ratio = exp(random.uniform(-log(aspect), log(aspect)))
        across, down = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    return 0, 0, width, height


class PictureDataset(ConversationDataset):
    """Samples ``{pixel_values [1, 3, H, W], notes}`` by draw: index plus a multiple of the number of pictures.

    A picture that cannot be read is noted and another stands in its place, as in :class:`ConversationDataset`.

    Args:
        seed: of crops and flips.
    """

    def __init__(self, parts: list[MixturePart], images: Path, encoder: PixelEncoder, *, seed: int = 0):
        self.seed = seed
        super().__init__(parts, images, encoder)

    def __getitem__(self, draw: int) -> dict:
        random = np.random.default_rng((self.seed, draw))
        return self.usable(draw % len(self), partial(self.encoder, random=random))


class DrawSampler(GroupedSampler):
    """The draws of a pass, shuffled; whole global batches only."""

    def __init__(self, dataset: PictureDataset, *, global_batch_size: int, seed: int = 0):
        super().__init__(dataset, global_batch_size=global_batch_size, seed=seed, group_by="none")

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * len(self.dataset)
        yield from (first + index for index in super().__iter__())


class PictureCollator:
    """Joins samples to ``pixel_values [B, 3, H, W]`` and ``notes``; the notes alone where a place stayed empty."""

    def __call__(self, samples: list[dict]) -> dict:
        notes = BatchNotes.joined([sample["notes"] for sample in samples])
        if not notes.complete:
            return {"notes": notes}
        return {"pixel_values": torch.cat([sample["pixel_values"] for sample in samples]), "notes": notes}
