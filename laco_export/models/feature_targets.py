"""What a model with merges inside should give of a picture: the features of the model that it was made from.

::

    reference  [B, H·W, D]      ──pool──▶  targets [B, T, D]  ◀──compare──  merged [B, T, D]

Where the merged model has fewer tokens, a target is the mean of the tokens in its window, an odd grid padded as the
merge pads it: what the reference's features would be if merging cost nothing. Where both have as many (the reference
put windows together outside its encoder), they are compared one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, linalg
from torch.nn import functional as F

from ..errors import ConfigError
from ..token_grid import merged_grid


def pooling_ratios(reference: tuple[int, int], merged: tuple[int, int], ratios: Sequence[int]) -> tuple[int, ...]:
    """Which of a path's ratios lie between two token grids: the last ones; none where the grids are equal.

    A merge of ratio 4 that takes the place of a window of 2 outside leaves 2 between them.

    Args:
        reference, merged: rows and columns of the tokens that the language model sees of a tile.
        ratios: of the merges inside, in their order.

    Raises:
        ConfigError: no number of them makes the one grid of the other.
    """
    for first in range(len(ratios), -1, -1):
        grid = tuple(reference)
        for ratio in ratios[first:]:
            grid = merged_grid(*grid, ratio) if min(grid) >= ratio else (0, 0)
        if grid == tuple(merged):
            return tuple(ratios[first:])
    left = -(-reference[0] // merged[0])
    if prod(ratios) % left == 0 and merged_grid(*reference, left) == tuple(merged):
        return (left,)
    raise ConfigError(
        "the two models' tokens do not belong together",
        given=f"a grid of {merged[0]} x {merged[1]} beside the reference's {reference[0]} x {reference[1]}",
        allowed=f"the same grid, or what merges of ratio {', '.join(map(str, ratios)) or 'none'} make of it",
    )


def pool_features(features: Tensor, grid: tuple[int, int], ratios: Sequence[int]) -> Tensor:
    """The mean of each r×r window, once for each ratio: ``[B, H·W, D]`` -> ``[B, T, D]``.

    An odd grid's last row and column are repeated up to whole windows, as the merge does.
    """
    channels_first = features.unflatten(1, grid).permute(0, 3, 1, 2)  # [B, D, H, W]
    for ratio in ratios:
        height, width = channels_first.shape[-2:]
        padded = F.pad(channels_first, (0, -width % ratio, 0, -height % ratio), mode="replicate")
        channels_first = F.avg_pool2d(padded, ratio)  # [B, D, ⌈H/r⌉, ⌈W/r⌉]
    return channels_first.flatten(2).transpose(1, 2)  # [B, T, D]


def tile_errors(features: Tensor, targets: Tensor) -> Tensor:
    """``‖features − targets‖ / ‖targets‖`` of each tile: ``[B, T, D]`` twice -> ``[B]``."""
    differences = linalg.vector_norm(features - targets, dim=(1, 2))
    return differences / linalg.vector_norm(targets, dim=(1, 2))


def token_errors(features: Tensor, targets: Tensor) -> Tensor:
    """Where a tile's error lies: the norm of each token's difference over the root mean square of the tile's target
    norms: ``[B, T, D]`` twice -> ``[B, T]``. Their root mean square is the tile's relative error."""
    scale = linalg.vector_norm(targets, dim=-1).square().mean(1, keepdim=True).sqrt()
    return linalg.vector_norm(features - targets, dim=-1) / scale


def token_cosines(features: Tensor, targets: Tensor) -> Tensor:
    """Cosine of each token with its target: ``[B, T, D]`` twice -> ``[B, T]``."""
    return F.cosine_similarity(features, targets, dim=-1)
