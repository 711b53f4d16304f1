"""Pictures of any resolution as tiles; where the tiles' tokens go in the prompt is said by :mod:`.token_layouts`.

::

    anyres (LLaVA-NeXT, LLaVA-OneVision)
    picture ─▶ the best grid of tiles ─▶ base tile (the whole, squashed) + rows × columns tiles (padded)
    features of the tiles ─▶ base tokens, then the grid row by row without its padding, a newline after each row

    aspect_ratio (InternVL)
    picture ─▶ the grid of the closest aspect ratio ─▶ rows × columns tiles (squashed) + the whole, if they are several
    features of the tiles ─▶ tile after tile, the whole last
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from PIL import Image

from .errors import ConfigError, check_whole
from .preprocessing import ImagePreprocessing
from .scaled_decoding import Size, full_size, resize

ANYRES, ASPECT_RATIO = "anyres", "aspect_ratio"


@dataclass(frozen=True)
class Tiling:
    """Which tile grids a picture may take.

    Attributes:
        tile: side of a tile in pixels (the encoder's input).
        max_rows, max_columns: the largest grid; every grid up to it is tried, or only those of ``grids``.
        max_tiles: ``anyres``: a grid with more tiles' worth of tokens than this is scaled down to it
            (``anyres_max_9``); ``aspect_ratio``: a grid has at most so many tiles.
        grids: the allowed (rows, columns), when not all up to the largest.
        rule: ``anyres`` or ``aspect_ratio``, see above.
        min_tiles: of ``aspect_ratio``: a grid has at least so many tiles.
    """

    tile: int
    max_rows: int = 6
    max_columns: int = 6
    max_tiles: int = 9
    grids: tuple[tuple[int, int], ...] = ()
    rule: str = ANYRES
    min_tiles: int = 1

    def __post_init__(self) -> None:
        try:
            grids = tuple((int(rows), int(columns)) for rows, columns in self.grids)
        except (TypeError, ValueError):
            raise ConfigError("tiling.grids must hold pairs", given=self.grids, allowed="[[1, 2], [2, 1]]") from None
        object.__setattr__(self, "grids", grids)
        for name in ("tile", "max_rows", "max_columns", "max_tiles", "min_tiles"):
            check_whole(f"tiling.{name}", getattr(self, name))
        if self.rule not in (ANYRES, ASPECT_RATIO):
            raise ConfigError("tiling.rule is unknown", given=self.rule, allowed=f"{ANYRES}, {ASPECT_RATIO}")
        if self.min_tiles > self.max_tiles:
            raise ConfigError(
                "tiling.min_tiles is more than tiling.max_tiles", given=f"{self.min_tiles}, {self.max_tiles}"
            )
        if any(min(grid) < 1 for grid in self.grids):
            raise ConfigError("tiling.grids holds a grid without tiles", given=self.grids)

    @classmethod
    def from_mapping(cls, values: Mapping) -> Tiling:
        field_names = cls.__dataclass_fields__.keys()
        if unknown := sorted(set(values) - set(field_names)):
            raise ConfigError(f"tiling has unknown fields: {', '.join(unknown)}", allowed=", ".join(field_names))
        if "tile" not in values:
            raise ConfigError("tiling has no field tile", allowed="the encoder's input in pixels, such as 336")
        return cls(**values)

    @property
    def has_newline(self) -> bool:
        """Whether a newline's embedding ends each row of a tiled picture."""
        return self.rule == ANYRES

    @cached_property
    def allowed_grids(self) -> tuple[tuple[int, int], ...]:
        """Every (rows, columns) that a picture may take, in the order in which they are tried."""
        if self.rule == ANYRES:
            return self.grids or tuple(product(range(1, self.max_rows + 1), range(1, self.max_columns + 1)))
        most = self.max_tiles
        grids = [(r, c) for c in range(1, most + 1) for r in range(1, most // c + 1) if r * c >= self.min_tiles]
        return tuple(sorted(grids, key=math.prod))  # of as many tiles, the narrow ones first

    def choose(self, height: int, width: int) -> tuple[int, int]:
        """The grid (rows, columns) of a picture of ``height`` x ``width`` pixels.

        ``anyres``: the one that shows most of it, and of those the one that pads least; ``aspect_ratio``: the one of
        the closest aspect ratio, and of those that differ as much the last whose tiles have less than twice its pixels.
        """
        return self._most_shown(height, width) if self.rule == ANYRES else self._closest(height, width)

    def _most_shown(self, height: int, width: int) -> tuple[int, int]:
        best, best_key = (1, 1), (-1, 0)
        for rows, columns in self.allowed_grids:
            canvas_height, canvas_width = rows * self.tile, columns * self.tile
            scale = min(canvas_width / width, canvas_height / height)
            seen = min(int(width * scale) * int(height * scale), width * height)
            key = (seen, seen - canvas_height * canvas_width)
            if key > best_key:
                best, best_key = (rows, columns), key
        return best

    def _closest(self, height: int, width: int) -> tuple[int, int]:
        best, least = (1, 1), math.inf
        for rows, columns in self.allowed_grids:
            difference = abs(width / height - columns / rows)
            fills = width * height > 0.5 * self.tile**2 * rows * columns
            if difference < least or (difference == least and fills):
                best, least = (rows, columns), difference
        return best

    def tiles_of(self, height: int, width: int) -> int:
        """How many tiles a picture becomes, the whole picture's own among them."""
        cells = math.prod(self.choose(height, width))
        return cells if self.rule == ASPECT_RATIO and cells == 1 else cells + 1

    def resized_to(self, size: Size) -> Size:
        """What :func:`~laco_export.preprocessing.load_image` asks: the least size (width, height) that covers what a
        picture of ``size`` is resized to, for its grid and for the base tile."""
        width, height = self._scaled_size(*size, *self.choose(size[1], size[0]))
        return max(width, self.tile), max(height, self.tile)

    def _scaled_size(self, width: int, height: int, rows: int, columns: int) -> Size:
        """The size (width, height) that fits the grid's canvas: without padding one way, or squashed to it."""
        canvas_height, canvas_width = rows * self.tile, columns * self.tile
        if self.rule == ASPECT_RATIO:
            return canvas_width, canvas_height
        scale_x, scale_y = canvas_width / width, canvas_height / height
        if scale_x < scale_y:
            return canvas_width, min(math.ceil(height * scale_x), canvas_height)
        return min(math.ceil(width * scale_y), canvas_width), canvas_height

    def split(self, image: Image.Image, preprocessing: ImagePreprocessing) -> np.ndarray:
        """The grid's tiles, row by row, with the whole picture as one more before them (``aspect_ratio``: after them,
        where they are several): float32 ``[tiles, 3, tile, tile]``."""
        width, height = full_size(image)
        rows, columns = self.choose(height, width)
        canvas_height, canvas_width = rows * self.tile, columns * self.tile
        size = self._scaled_size(width, height, rows, columns)
        canvas = Image.new("RGB", (canvas_width, canvas_height))
        offset = ((canvas_width - size[0]) // 2, (canvas_height - size[1]) // 2)
        canvas.paste(resize(image, size), offset)
        pixels = np.asarray(canvas).reshape(rows, self.tile, columns, self.tile, 3)
        tiles = [*pixels.transpose(0, 2, 1, 3, 4).reshape(-1, self.tile, self.tile, 3)]  # [tile, tile, 3] each
        if self.tiles_of(height, width) > len(tiles):
            whole = np.asarray(resize(image, (self.tile, self.tile)))
            tiles.insert(0 if self.rule == ANYRES else len(tiles), whole)
        return np.stack([preprocessing.normalize(tile) for tile in tiles])


def sample_frames(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` frames, uniform, with the first and the last."""
    if count < 1 or most < 1:
        raise ConfigError("a video needs at least one frame", given=f"{count} frames, at most {most} taken")
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
