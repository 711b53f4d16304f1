"""The order of a picture's tokens, by their place in the picture: a mosaic of the tiles, in NumPy.

LLaVA-OneVision's "anyres": the base tile's tokens, then the tiles laid side by side as the picture shows them, without
the rows or columns that are padding alone, scaled down above the budget, a newline at the end of each row. A video's
frame is scaled down alone. InternVL's tiles follow one another. What ends in a newline by the model's ``token_layout``
is written out here once more. What is watched are the model's packing, in PyTorch, and the engines', in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...layout_rules import ONE_TILE, SINGLE_TILE, VIDEO_END, VIDEO_FRAME, ImageSize
from ...tiling import Tiling
from ...token_layouts import layouts, pack_tokens
from .independent_check import IndependentCheck, compare_cases

if TYPE_CHECKING:
    from ...models import LacoForConditionalGeneration

_SCALE_DOWN_ABOVE = 1.1  # of the budget, a side: LLaVA-OneVision's
_PICTURE_ENDS_IN_NEWLINE = ("llava_next", "llava_onevision")  # where it is one tile


def check_packed_tokens(model: LacoForConditionalGeneration) -> list[IndependentCheck]:
    """Compare both packings of pictures of several shapes, and of video frames, with the mosaic.

    Raises:
        ExportError: they differ.
    """
    import torch

    config, grid = model.config, model.token_grid
    tiling, pooling = config.tiling_config, config.video_pooling
    sizes = sizes_to_pack(tiling)
    features, newline = numbered_features(model, sizes), None
    if model.image_newline is not None:
        newline = model.image_newline.detach().float().numpy()
    mosaics = [
        mosaic(tiles, size, grid, tiling, newline, pooling, config.token_layout) for tiles, size in zip(features, sizes)
    ]
    names = [_name(size) for size in sizes]
    stacked = np.concatenate(features)
    with torch.no_grad():
        by_model = model.pack_image_features(torch.from_numpy(stacked), torch.tensor(sizes))
    plans = layouts(sizes, grid=grid, tiling=tiling, video_pooling=pooling, token_layout=config.token_layout)
    ends = np.cumsum([len(tokens) for tokens in mosaics])[:-1]
    by_engine = np.split(pack_tokens(stacked, plans, newline), ends)
    return [
        compare_cases(watched, "the tiles' places in the picture", zip(names, packed, mosaics, strict=True))
        for watched, packed in (
            ("the model's visual tokens", [tokens.numpy() for tokens in by_model]),
            ("the engines' visual tokens", by_engine),
        )
    ]


def sizes_to_pack(tiling: Tiling | None) -> list[ImageSize]:
    """Pictures that exercise all of a layout: one tile, a frame, and where pictures are tiled wide and tall ones, with
    padding above or at the sides, a sliver, and the largest grid."""
    if tiling is None:
        return [SINGLE_TILE, VIDEO_FRAME, SINGLE_TILE]
    video = [VIDEO_FRAME, VIDEO_END] if tiling.has_newline else [VIDEO_FRAME]
    side = tiling.tile
    tiled = [(side, 3 * side - 5), (2 * side, side), (3 * side // 2, side), (side // 9, 3 * side)]
    return [SINGLE_TILE, *tiled, *video, (tiling.max_rows * side, tiling.max_columns * side)]


def numbered_features(model: LacoForConditionalGeneration, sizes: Sequence[ImageSize]) -> list[np.ndarray]:
    """Embeddings that tell which token of which tile they are: float32 ``[tiles, tokens, D]`` for each picture."""
    tokens, width = model.tokens_per_image, model.config.text_config.hidden_size
    rows = [_tiles_of(size, model.config.tiling_config) for size in sizes]
    numbers = np.random.default_rng(0).standard_normal((sum(rows) * tokens, 1)) + np.linspace(0, 1, width)
    return np.split(numbers.astype(np.float32).reshape(-1, tokens, width), np.cumsum(rows)[:-1])


def mosaic(
    tiles: np.ndarray,
    size: ImageSize,
    grid: tuple[int, int],
    tiling: Tiling | None,
    newline: np.ndarray | None,
    pooling: int,
    token_layout: str = "laco",
) -> np.ndarray:
    """A picture's tokens in the prompt, float32 ``[n, D]``, of its tiles' ``[tiles, tokens, D]``.

    Args:
        grid: a tile's tokens as rows and columns.
    """
    width = tiles.shape[-1]
    if size == SINGLE_TILE:
        return np.concatenate([tiles[0], newline[None]]) if token_layout in _PICTURE_ENDS_IN_NEWLINE else tiles[0]
    if size in (VIDEO_FRAME, VIDEO_END):
        shown = _scaled(tiles[0].reshape(*grid, width), [math.ceil(side / pooling) for side in grid])
        ending = [newline[None]] if size == VIDEO_END else []
        return np.concatenate([shown.reshape(-1, width), *ending])
    if tiling.rule == "aspect_ratio":
        return tiles.reshape(-1, width)
    rows, columns = _best_grid(*size, tiling)
    bands = [[tiles[1 + r * columns + c].reshape(*grid, width) for c in range(columns)] for r in range(rows)]
    laid_out = np.concatenate([np.concatenate(band, axis=1) for band in bands])  # [rows·H, columns·W, D]
    shown = _without_padding(laid_out, *size)
    excess = math.sqrt(shown.shape[0] * shown.shape[1] / (tiling.max_tiles * tiles.shape[1]))
    if excess > _SCALE_DOWN_ABOVE:
        shown = _scaled(shown, [max(1, int(side // excess)) for side in shown.shape[:2]])
    lines = [np.concatenate([line, newline[None]]) for line in shown]
    return np.concatenate([tiles[0], *lines])


def _tiles_of(size: ImageSize, tiling: Tiling | None) -> int:
    if size in ONE_TILE:
        return 1
    if tiling.rule == "aspect_ratio":
        return _tiles_of_closest_shape(*size, tiling)
    return 1 + math.prod(_best_grid(*size, tiling))


def _tiles_of_closest_shape(height: int, width: int, tiling: Tiling) -> int:
    """InternVL's grid is the one whose aspect ratio is the closest; of two that are as close the larger, if the picture
    has more than half its pixels. The whole picture is one tile more, if the grid has several."""
    counts = range(tiling.min_tiles, tiling.max_tiles + 1)
    shapes = [
        (count // columns, columns) for count in counts for columns in range(1, count + 1) if count % columns == 0
    ]
    least = min(abs(width / height - columns / rows) for rows, columns in shapes)
    close = [shape for shape in shapes if abs(width / height - shape[1] / shape[0]) == least]
    filled = [shape for shape in close[1:] if 2 * height * width > math.prod(shape) * tiling.tile**2]
    cells = math.prod((filled or close[:1])[-1])
    return cells + (cells > 1)


def _best_grid(height: int, width: int, tiling: Tiling) -> tuple[int, int]:
    """Rows and columns of the grid that shows most pixels of a picture, with the least padding; the first of equals."""
    grids = tiling.grids or [(r + 1, c + 1) for r in range(tiling.max_rows) for c in range(tiling.max_columns)]

    def worth(grid: tuple[int, int]) -> tuple[int, int]:
        canvas = grid[0] * tiling.tile, grid[1] * tiling.tile
        scale = min(canvas[0] / height, canvas[1] / width)
        shown = min(int(height * scale) * int(width * scale), height * width)
        return shown, shown - canvas[0] * canvas[1]

    return max(grids, key=worth)


def _without_padding(laid_out: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[H, W, D]`` without the rows or columns that a picture of ``height`` x ``width`` does not reach."""
    rows, columns = laid_out.shape[:2]
    across = width * rows > height * columns  # wider than the grid: padding above and below
    reached = height * columns / width if across else width * rows / height
    sides = (rows if across else columns) - max(1, int(round(reached, 7)))
    padding = sides // 2
    return laid_out[padding : rows - padding] if across else laid_out[:, padding : columns - padding]


def _scaled(cells: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """``[H, W, D]`` to ``[*size, D]`` by bilinear interpolation between the cells' centres."""
    down, across = (_hats(length, target) for length, target in zip(cells.shape, size))
    return np.einsum("yh,hwd,xw->yxd", down, cells, across, optimize=True).astype(np.float32)


def _hats(length: int, target: int) -> np.ndarray:
    """``[target, length]``: how much of each cell is in each of the fewer: less by its distance, none from 1 on."""
    centres = (np.arange(target) + 0.5) * length / target - 0.5
    return np.maximum(0, 1 - np.abs(np.maximum(centres, 0)[:, None] - np.arange(length)))


def _name(size: ImageSize) -> str:
    named = {SINGLE_TILE: "a picture of one tile", VIDEO_FRAME: "a video's frame", VIDEO_END: "a video's last frame"}
    return named.get(size, f"a picture of {size[0]} x {size[1]} pixels")
