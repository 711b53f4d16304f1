"""How a family of models lays out what it is shown: its pictures, its tiles and its videos, named in the configuration.

Published families agree on the tiles (:mod:`.tiling`) and differ in what stands around them: in LLaVA-OneVision a
newline's embedding ends each of several pictures and a whole video, in LLaVA-NeXT every picture is tiled, in InternVL
no newline stands anywhere. transformers' classes are what these rules are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigError

SINGLE_TILE = (0, 0)
"""``image_sizes`` entry of a picture that is one tile."""
VIDEO_FRAME = (-1, -1)
"""``image_sizes`` entry of a video frame: one tile, its tokens pooled."""
VIDEO_END = (-2, -2)
"""``image_sizes`` entry of a video's last frame, where the family ends a video in a newline."""
ONE_TILE = (SINGLE_TILE, VIDEO_FRAME, VIDEO_END)
"""The entries that are no size in pixels."""

ImageSize = tuple[int, int]
"""(height, width) of a tiled picture in pixels, or one of :data:`ONE_TILE`."""


@dataclass(frozen=True)
class LayoutRules:
    """What a family does besides tiling.

    Attributes:
        tiles_each: every picture of a prompt is tiled; else the one that is a prompt's only picture.
        pads_to_square: a picture that is one tile is first padded to a square in the mean colour; else it is prepared
            as the encoder's own preprocessing does.
        newline_after_picture: a picture that is one tile ends in a newline.
        newline_after_video: a video ends in one newline.
    """

    tiles_each: bool = False
    pads_to_square: bool = False
    newline_after_picture: bool = False
    newline_after_video: bool = False

    @property
    def has_newline(self) -> bool:
        """Whether a newline ends what is one tile."""
        return self.newline_after_picture or self.newline_after_video

    def picture_size(self, height: int, width: int, *, alone: bool, tiles: bool) -> ImageSize:
        """A picture's ``image_sizes`` entry.

        Args:
            height, width: in pixels.
            alone: it is its prompt's only picture, and there is no video.
            tiles: the model tiles.
        """
        return (height, width) if tiles and (alone or self.tiles_each) else SINGLE_TILE

    def frame_sizes(self, count: int) -> list[ImageSize]:
        """The ``image_sizes`` entries of a video's ``count`` frames."""
        last = VIDEO_END if self.newline_after_video else VIDEO_FRAME
        return [VIDEO_FRAME] * (count - 1) + [last]


TOKEN_LAYOUTS: dict[str, LayoutRules] = {
    "laco": LayoutRules(),
    "llava": LayoutRules(),
    "llava_next": LayoutRules(tiles_each=True, newline_after_picture=True),
    "llava_onevision": LayoutRules(pads_to_square=True, newline_after_picture=True, newline_after_video=True),
    "internvl": LayoutRules(tiles_each=True),
}
"""By the name that a configuration, a processor and a bundle give as ``token_layout``; ``laco`` is this project's own:
LLaVA-OneVision's grid for a prompt's only picture, and no newline elsewhere."""

DEFAULT_TOKEN_LAYOUT = "laco"


def layout_rules(name: str) -> LayoutRules:
    """The rules of a ``token_layout``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in TOKEN_LAYOUTS:
        raise ConfigError("token_layout is unknown", given=name, allowed=", ".join(TOKEN_LAYOUTS))
    return TOKEN_LAYOUTS[name]
