"""A teacher's tokens as a merge's average would leave them: what a student with fewer tokens is taught."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat
from torch.nn import functional as F

from laco_export.token_grid import merged_grid


def average_windows(tokens: Tensor, grid: tuple[int, int], ratios: Sequence[int]) -> Tensor:
    """The mean of each r×r window for each r in turn, as merges that follow each other would average.

    ::

        27 × 27 ─▶ its last row and column repeated: 28 × 28 ─▶ 14 × 14

    Args:
        tokens: ``[B, H·W, C]``, row by row.
        grid: (H, W); odd sides are padded by replication.

    Returns:
        ``[B, ⌈H/r⌉·⌈W/r⌉, C]``; for no ratio, the tokens themselves.
    """
    height, width = grid
    for ratio in ratios:
        planes = tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)  # [B, C, H, W]
        planes = F.pad(planes, (0, -width % ratio, 0, -height % ratio), mode="replicate")
        tokens = F.avg_pool2d(planes, ratio).flatten(2).transpose(1, 2)
        height, width = merged_grid(height, width, ratio)
    return tokens


def average_boundary(hidden_states: Tensor, prefix: int, grid: tuple[int, int], ratios: Sequence[int]) -> Tensor:
    """:func:`average_windows` behind ``prefix`` tokens that bypass merges: ``[B, P+H·W, C]`` -> ``[B, P+n, C]``."""
    pooled = average_windows(hidden_states[:, prefix:], grid, ratios)
    return cat((hidden_states[:, :prefix], pooled), dim=1) if prefix else pooled
