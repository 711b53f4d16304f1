"""Space-to-channel rearrangement of a token grid."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def space_to_channel(grid: Tensor, ratio: int) -> Tensor:
    """Gather each r×r window of tokens into one token's channels, as ``F.pixel_unshuffle`` orders them.

    ::

        a b │ c d          window 0: channel 0 of a, b, e, f, then channel 1 of a, b, e, f, …
        e f │ g h    ──▶   window 1: channel 0 of c, d, g, h, …

    Args:
        grid: ``[B, H, W, C]`` with H and W multiples of ``ratio``.

    Returns:
        ``[B, H/r, W/r, C·r²]``; channel ``c·r² + i·r + j`` is channel c of the window's token in row i, column j.
    """
    channels_first = grid.permute(0, 3, 1, 2)  # [B, C, H, W]
    return F.pixel_unshuffle(channels_first, ratio).permute(0, 2, 3, 1)  # [B, H/r, W/r, C·r²]
