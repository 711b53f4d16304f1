"""Where a picture's tile tokens go in the prompt, for each ``token_layout``.

A :class:`TokenLayout` says which tile token (or which weighted four of them, where the grid is scaled down) each token
of the prompt is. The processor inserts ``len(layout)`` image tokens and the model gathers by the same layout, so the
two cannot disagree. Everything is numpy; the model applies a layout in torch, an engine in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .errors import ConfigError
from .layout_rules import DEFAULT_TOKEN_LAYOUT, ONE_TILE, SINGLE_TILE, VIDEO_END, VIDEO_FRAME, ImageSize, layout_rules
from .preprocessing import ImagePreprocessing
from .tiling import ANYRES, ASPECT_RATIO, Tiling

_SCALE_DOWN_ABOVE = 1.1  # LLaVA-OneVision leaves a grid as it is up to 10 % over the budget per side


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


def ends_in_newline(layout: TokenLayout, grid: tuple[int, int]) -> TokenLayout:
    """The layout with a newline behind it.

    Args:
        grid: a tile's token grid after the merge.
    """
    indices = np.pad(layout.indices, ((0, 1), (0, 0)), constant_values=layout.tiles * grid[0] * grid[1])
    weights = np.pad(layout.weights, ((0, 1), (0, 0)))
    weights[-1, 0] = 1
    return TokenLayout(indices, weights, layout.tiles)


def tiled_layout(tiling: Tiling, height: int, width: int, grid: tuple[int, int]) -> TokenLayout:
    """The layout of a tiled picture: the base tile's tokens, then the grid's without its padding; ``aspect_ratio``: all
    tiles' tokens in order.

    Args:
        height, width: the picture's size in pixels.
        grid: a tile's token grid after the merge, ⌈H/r⌉ × ⌈W/r⌉.
    """
    rows, columns = tiling.choose(height, width)
    per_tile = grid[0] * grid[1]
    if tiling.rule == ASPECT_RATIO:
        tiles = tiling.tiles_of(height, width)
        return replace(single_tile_layout(tiles * per_tile), tiles=tiles)
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


def prepare_tiles(
    picture: Image.Image,
    size: ImageSize,
    preprocessing: ImagePreprocessing,
    tiling: Tiling | None,
    token_layout: str = DEFAULT_TOKEN_LAYOUT,
) -> np.ndarray:
    """The tiles of an RGB picture with its ``image_sizes`` entry: float32 ``[tiles, 3, H, W]``."""
    if size not in ONE_TILE:
        return tiling.split(picture, preprocessing)
    if size == SINGLE_TILE and layout_rules(token_layout).pads_to_square:
        preprocessing = replace(preprocessing, resize="pad")
    return preprocessing(picture)[None]


def check_token_layout(name: str, tiling: Tiling | None) -> None:
    """Refuse a ``token_layout`` that is not known, or that asks for another tiling than the model's.

    Raises:
        ConfigError: either.
    """
    rules = layout_rules(name)
    if rules.has_newline and (tiling is None or not tiling.has_newline):
        raise ConfigError(
            f"token_layout {name} ends pictures in a newline, which only tiling by {ANYRES} has", given=tiling
        )
    if not rules.has_newline and name != DEFAULT_TOKEN_LAYOUT and tiling is not None and tiling.has_newline:
        raise ConfigError(f"token_layout {name} has no newline, which tiling by {ANYRES} needs", given=tiling)


def layouts(
    image_sizes: Sequence[Sequence[int]],
    *,
    grid: tuple[int, int],
    tiling: Tiling | None,
    video_pooling: int = 1,
    token_layout: str = DEFAULT_TOKEN_LAYOUT,
) -> list[TokenLayout]:
    """The layout of each picture from its ``image_sizes`` entry (:mod:`.layout_rules`).

    Args:
        grid: a tile's token grid after the merge.
        tiling: the model's, if it tiles.
        video_pooling: a frame's grid is scaled down by this.
        token_layout: a name of :data:`~.layout_rules.TOKEN_LAYOUTS`.

    Raises:
        ConfigError: a tiled picture where the model has no tiling.
    """
    return [
        _layout((int(height), int(width)), grid, tiling, video_pooling, token_layout) for height, width in image_sizes
    ]


def _layout(
    size: ImageSize, grid: tuple[int, int], tiling: Tiling | None, video_pooling: int, token_layout: str
) -> TokenLayout:
    if size == SINGLE_TILE:
        picture = single_tile_layout(grid[0] * grid[1])
        return ends_in_newline(picture, grid) if layout_rules(token_layout).newline_after_picture else picture
    if size in (VIDEO_FRAME, VIDEO_END):
        frame = video_frame_layout(grid, video_pooling)
        return ends_in_newline(frame, grid) if size == VIDEO_END else frame
    if tiling is None:
        raise ConfigError("image_sizes asks for tiles and the model's config has no tiling", given=size)
    return tiled_layout(tiling, *size, grid)
