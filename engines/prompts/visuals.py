"""Pictures and videos of a question as the encoder's input. No torch.

::

    pictures, videos ─▶ Visual, Visual, …   one for each picture and one for each frame that is taken of a video
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from laco_export.bundle import Bundle
from laco_export.layout_rules import ImageSize, layout_rules
from laco_export.preprocessing import MAX_PIXELS, load_image
from laco_export.scaled_decoding import Size, full_size
from laco_export.tiling import Tiling, sample_frames
from laco_export.token_layouts import TokenLayout, layouts, prepare_tiles
from laco_export.video import read_frames

from .processor_fields import video_fields


@dataclass(frozen=True, eq=False)
class Visual:
    """A picture or a video frame, prepared.

    Attributes:
        pixel_values: float32 ``[tiles, 3, H, W]``; one tile unless the bundle tiles this picture.
        layout: which tokens of the tiles stand in the prompt; ``len(visual)`` of them.
    """

    pixel_values: np.ndarray
    layout: TokenLayout

    def __len__(self) -> int:
        return len(self.layout)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that two visuals share only if they embed alike."""
        digest = hashlib.blake2b(self.pixel_values, digest_size=16)
        digest.update(np.ascontiguousarray(self.layout.indices))
        return digest.digest()

    @cached_property
    def position_keys(self) -> np.ndarray:
        """int64 ``[len(self)]``, negative: what tells this visual's positions in a prompt from those of any other."""
        start = int.from_bytes(self.digest[:8], "little") >> 2  # 62 bits, so that adding a position stays in int64
        return -1 - (start + np.arange(len(self), dtype=np.int64))


Picture = Image.Image | str | os.PathLike | Visual
"""A path, a PIL picture (taken as it is: upright RGB), or one that is prepared already."""

Video = Sequence[Image.Image] | str | os.PathLike | Sequence[Visual]
"""A path that :func:`laco_export.video.read_frames` reads, all its frames as PIL pictures, or prepared ones."""


class VisualPreparer:
    """Prepares pictures and videos for one bundle.

    Args:
        bundle: a verified bundle.

    Raises:
        BundleError: its ``processor_config.json`` cannot be read.
    """

    def __init__(self, bundle: Bundle):
        vision = bundle.manifest.vision
        self.preprocessing = bundle.manifest.image_preprocessing
        self.token_grid = vision.token_grid
        self.tiling = Tiling.from_mapping(vision.tiling) if vision.tiling else None
        self.token_layout, self.rules = vision.token_layout, layout_rules(vision.token_layout)
        self.max_frames, self.video_pooling = video_fields(bundle)

    def picture(
        self, picture: Picture, *, alone: bool, low_detail: bool = False, max_pixels: int = MAX_PIXELS
    ) -> Visual:
        """Prepare a picture.

        Args:
            picture: one that is prepared already is returned as it is.
            alone: it is the prompt's only one, and so tiled where the model was trained to tile (some tile each).
            low_detail: it stays one tile in any case.
            max_pixels: a larger file is refused from its header.

        Raises:
            ImageError: it cannot or may not be read.
        """
        if isinstance(picture, Visual):
            return picture
        resized_to = self.resized_to(alone=alone, low_detail=low_detail)
        if isinstance(picture, Image.Image):
            image = picture
        else:
            image = load_image(picture, max_pixels=max_pixels, resized_to=resized_to)
        width, height = full_size(image)
        tiles = self.tiling is not None and not low_detail
        return self._visual(image, self.rules.picture_size(height, width, alone=alone, tiles=tiles))

    def resized_to(self, *, alone: bool, low_detail: bool = False) -> Callable[[Size], Size]:
        """For :func:`~laco_export.preprocessing.load_image`: what a picture becomes, for one that is read elsewhere."""
        tiled = self.tiling is not None and not low_detail and (alone or self.rules.tiles_each)
        return self.tiling.resized_to if tiled else self.preprocessing.resized_to

    def video(self, video: Video, *, max_frames: int | None = None, max_pixels: int = MAX_PIXELS) -> list[Visual]:
        """Prepare a video's frames: at most ``max_frames`` (default: the checkpoint's), uniformly taken.

        Raises:
            VideoError: it cannot or may not be read.
            UsageError: it has no frames.
        """
        most = max_frames or self.max_frames
        if isinstance(video, (str, os.PathLike)):
            frames = read_frames(video, most, max_pixels=max_pixels)
        elif len(video) and isinstance(video[0], Visual):
            return list(video)
        else:
            frames = [video[index] for index in sample_frames(len(video), most)]
        return [self._visual(*frame) for frame in zip(frames, self.rules.frame_sizes(len(frames)), strict=True)]

    def _visual(self, image: Image.Image, size: ImageSize) -> Visual:
        (layout,) = layouts(
            [size],
            grid=self.token_grid,
            tiling=self.tiling,
            video_pooling=self.video_pooling,
            token_layout=self.token_layout,
        )
        return Visual(prepare_tiles(image, size, self.preprocessing, self.tiling, self.token_layout), layout)
