"""Pictures of any resolution as tiles, and where the tiles' tokens go in the prompt (LLaVA-OneVision's "anyres").

::

    picture ─▶ the best grid of tiles ─▶ base tile (the whole, squashed) + rows × columns tiles (padded)
    features of the tiles ─▶ base tokens, then the grid row by row without its padding, a newline after each row

A :class:`TokenLayout` says which tile token (or which weighted four of them, where the grid is scaled down) each token
of the prompt is. The processor inserts ``len(layout)`` image tokens and the model gathers by the same layout, so the
two cannot disagree. Everything is numpy; the model applies a layout in torch, an engine in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import ConfigError, check_whole
from .preprocessing import ImagePreprocessing
from .scaled_decoding import Size, full_size, resize

SINGLE_TILE = (0, 0)
"""``image_sizes`` entry of a picture that is one tile."""
VIDEO_FRAME = (-1, -1)
"""``image_sizes`` entry of a video frame: one tile, its tokens pooled."""

_SCALE_DOWN_ABOVE = 1.1  # LLaVA-OneVision leaves a grid as it is up to 10 % over the budget per side


@dataclass(frozen=True)
class Tiling:
    """Which tile grids a picture may take.

    Attributes:
        tile: side of a tile in pixels (the encoder's input).
        max_rows, max_columns: the largest grid; every grid up to it is tried, or only those of ``grids``.
        max_tiles: a grid with more tiles' worth of tokens than this is scaled down to it (``anyres_max_9``).
        grids: the allowed (rows, columns), when not all up to the largest.
    """

    tile: int
    max_rows: int = 6
    max_columns: int = 6
    max_tiles: int = 9
    grids: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        try:
            grids = tuple((int(rows), int(columns)) for rows, columns in self.grids)
        except (TypeError, ValueError):
            raise ConfigError("tiling.grids must hold pairs", given=self.grids, allowed="[[1, 2], [2, 1]]") from None
        object.__setattr__(self, "grids", grids)
        for name in ("tile", "max_rows", "max_columns", "max_tiles"):
            check_whole(f"tiling.{name}", getattr(self, name))
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

    def choose(self, height: int, width: int) -> tuple[int, int]:
        """The grid (rows, columns) that shows most of a picture, and of those the one that pads least."""
        all_grids = [(r, c) for r in range(1, self.max_rows + 1) for c in range(1, self.max_columns + 1)]
        best, best_key = (1, 1), (-1, 0)
        for rows, columns in self.grids or all_grids:
            canvas_height, canvas_width = rows * self.tile, columns * self.tile
            scale = min(canvas_width / width, canvas_height / height)
            seen = min(int(width * scale) * int(height * scale), width * height)
            key = (seen, seen - canvas_height * canvas_width)
            if key > best_key:
                best, best_key = (rows, columns), key
        return best

    def resized_to(self, size: Size) -> Size:
        """What :func:`~laco_export.preprocessing.load_image` asks: the least size (width, height) that covers what a
        picture of ``size`` is resized to, for its grid and for the base tile."""
        width, height = self._scaled_size(*size, *self.choose(size[1], size[0]))
        return max(width, self.tile), max(height, self.tile)

    def _scaled_size(self, width: int, height: int, rows: int, columns: int) -> Size:
        """The size (width, height) that fits the grid's canvas, without padding one way."""
        canvas_height, canvas_width = rows * self.tile, columns * self.tile
        scale_x, scale_y = canvas_width / width, canvas_height / height
        if scale_x < scale_y:
            return canvas_width, min(math.ceil(height * scale_x), canvas_height)
        return min(math.ceil(width * scale_y), canvas_width), canvas_height

    def split(self, image: Image.Image, preprocessing: ImagePreprocessing) -> np.ndarray:
        """The base tile and the grid's tiles, row by row: float32 ``[1 + rows·columns, 3, tile, tile]``."""
        width, height = full_size(image)
        rows, columns = self.choose(height, width)
        canvas_height, canvas_width = rows * self.tile, columns * self.tile
        size = self._scaled_size(width, height, rows, columns)
        canvas = Image.new("RGB", (canvas_width, canvas_height))
        offset = ((canvas_width - size[0]) // 2, (canvas_height - size[1]) // 2)
        canvas.paste(resize(image, size), offset)
        pixels = np.asarray(canvas).reshape(rows, self.tile, columns, self.tile, 3)
        tiles = pixels.transpose(0, 2, 1, 3, 4).reshape(-1, self.tile, self.tile, 3)  # [rows·columns, tile, tile, 3]
        base = np.asarray(resize(image, (self.tile, self.tile)))
        return np.stack([preprocessing.normalize(tile) for tile in (base, *tiles)])


@dataclass(frozen=True)
class TokenLayout:
    """Which tokens of its tiles a picture's tokens in the prompt are.

    Attributes:
        indices: int64 ``[n, k]`` into the picture's tile tokens ``[tiles·T]``; index ``tiles·T`` is the newline.
        weights: float32 ``[n, k]``, summing to 1 in each row; k is 1 where nothing is scaled.
        tiles: the picture's tiles.
    """

    indices: np.ndarray
    weights: np.ndarray
    tiles: int

    def __len__(self) -> int:
        return len(self.indices)


def pack_tokens(features: np.ndarray, plans: Sequence[TokenLayout], newline: np.ndarray | None) -> np.ndarray:
    """The tiles' embeddings as the prompt's visual embeddings, all pictures one after another.

    Args:
        features: float32 ``[tiles, T, D]``, all tiles of all pictures in order.
        newline: float32 ``[D]``, where a picture is tiled.

    Returns:
        float32 ``[n, D]`` with n the sum of the layouts' lengths.
    """
    packed, start = [], 0
    for plan in plans:
        flat = features[start : start + plan.tiles].reshape(-1, features.shape[-1])  # [tiles·T, D]
        if newline is not None:
            flat = np.concatenate([flat, newline[None].astype(flat.dtype)])  # index tiles·T is the newline
        if plan.indices.shape[1] == 1:
            packed.append(flat[plan.indices[:, 0]])
        else:
            packed.append((flat[plan.indices] * plan.weights[..., None]).sum(1))  # [n, k, D] -> [n, D]
        start += plan.tiles
    return np.concatenate(packed)


def single_tile_layout(tokens: int) -> TokenLayout:
    """All tokens of one tile, in order."""
    return TokenLayout(np.arange(tokens)[:, None], np.ones((tokens, 1), np.float32), 1)


def video_frame_layout(grid: tuple[int, int], pooling: int) -> TokenLayout:
    """One frame's token grid, bilinearly scaled down to ⌈side / pooling⌉ (LLaVA-OneVision's frame pooling)."""
    if pooling == 1:
        return single_tile_layout(grid[0] * grid[1])
    tokens = np.arange(grid[0] * grid[1]).reshape(grid)
    indices, weights = scale_down(tokens, (-(-grid[0] // pooling), -(-grid[1] // pooling)))
    return TokenLayout(indices, weights, 1)


def tiled_layout(tiling: Tiling, height: int, width: int, grid: tuple[int, int]) -> TokenLayout:
    """The layout of a tiled picture: the base tile's tokens, then the grid's without its padding.

    Args:
        height, width: the picture's size in pixels.
        grid: a tile's token grid after the merge, ⌈H/r⌉ × ⌈W/r⌉.
    """
    rows, columns = tiling.choose(height, width)
    per_tile = grid[0] * grid[1]
    tiles = 1 + rows * columns
    tokens = per_tile + np.arange(rows * columns * per_tile)  # after the base tile's
    tokens = tokens.reshape(rows, columns, *grid).transpose(0, 2, 1, 3).reshape(rows * grid[0], columns * grid[1])
    tokens = _without_padding(tokens, height, width)
    excess = math.sqrt(tokens.size / (tiling.max_tiles * per_tile))
    if excess > _SCALE_DOWN_ABOVE:
        size = (max(1, int(tokens.shape[0] // excess)), max(1, int(tokens.shape[1] // excess)))
        indices, weights = scale_down(tokens, size)
    else:
        size, indices, weights = tokens.shape, tokens.reshape(-1, 1), np.ones((tokens.size, 1), np.float32)
    k = indices.shape[1]
    first = np.eye(1, k, dtype=np.float32)  # weight 1 on the first of k: base tokens and newlines are not mixed
    base = np.broadcast_to(np.arange(per_tile)[:, None], (per_tile, k))
    newline = np.full((size[0], 1, k), tiles * per_tile)
    with_newlines = np.concatenate([indices.reshape(*size, k), newline], axis=1).reshape(-1, k)
    newline_weights = np.broadcast_to(first, (size[0], 1, k))
    body_weights = np.concatenate([weights.reshape(*size, k), newline_weights], axis=1).reshape(-1, k)
    return TokenLayout(
        np.concatenate([base, with_newlines]).astype(np.int64),
        np.concatenate([np.broadcast_to(first, (per_tile, k)), body_weights]).astype(np.float32),
        tiles,
    )


def _without_padding(tokens: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut the rows or columns of ``[H, W]`` that lie wholly in the padding of a picture of that aspect ratio."""
    grid_height, grid_width = tokens.shape
    if width / height > grid_width / grid_height:
        # Rounded first: 0.1 + 0.2 must not lose a row. At least one row is kept of a picture however flat.
        shown = max(1, int(round(height * (grid_width / width), 7)))
        padding = (grid_height - shown) // 2
        return tokens[padding : grid_height - padding]
    shown = max(1, int(round(width * (grid_height / height), 7)))
    padding = (grid_width - shown) // 2
    return tokens[:, padding : grid_width - padding]


def scale_down(tokens: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear interpolation of a token grid as four indices and weights for each result.

    The same as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Args:
        tokens: int ``[H, W]``: each cell's index.
        size: of the result.

    Returns:
        indices int64 and weights float32, both ``[size[0]·size[1], 4]``.
    """
    (top, bottom, down), (left, right, across) = (_neighbours(*pair) for pair in zip(tokens.shape, size, strict=True))
    indices = np.stack([tokens[np.ix_(y, x)] for y in (top, bottom) for x in (left, right)], axis=-1)
    weights = [np.multiply.outer(v, h) for v in (1 - down, down) for h in (1 - across, across)]
    return indices.reshape(-1, 4), np.stack(weights, axis=-1).reshape(-1, 4).astype(np.float32)


def _neighbours(length: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.maximum((np.arange(target) + 0.5) * (length / target) - 0.5, 0)
    low = np.minimum(np.floor(position).astype(np.int64), length - 1)
    return low, np.minimum(low + 1, length - 1), position - low


def sample_frames(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` frames, uniform, with the first and the last."""
    if count < 1 or most < 1:
        raise ConfigError("a video needs at least one frame", given=f"{count} frames, at most {most} taken")
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def layouts(
    image_sizes: Sequence[Sequence[int]], *, grid: tuple[int, int], tiling: Tiling | None, video_pooling: int = 1
) -> list[TokenLayout]:
    """The layout of each picture from its ``image_sizes`` entry: (height, width) in pixels where it is tiled, else
    :data:`SINGLE_TILE` or :data:`VIDEO_FRAME`.

    Raises:
        ConfigError: a tiled picture where the model has no tiling.
    """
    token_layouts = []
    for height, width in ((int(h), int(w)) for h, w in image_sizes):
        if (height, width) == SINGLE_TILE:
            token_layouts.append(single_tile_layout(grid[0] * grid[1]))
        elif (height, width) == VIDEO_FRAME:
            token_layouts.append(video_frame_layout(grid, video_pooling))
        elif tiling is None:
            raise ConfigError("image_sizes asks for tiles and the model's config has no tiling", given=(height, width))
        else:
            token_layouts.append(tiled_layout(tiling, height, width, grid))
    return token_layouts
