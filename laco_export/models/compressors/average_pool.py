"""Average pooling alone: the parameter-free branch of LaCo, and at ``@1`` Gemma 3's external compression."""

from __future__ import annotations

from torch import Tensor, nn

from .space_to_channel import space_to_channel


def channel_average(windows: Tensor, ratio: int) -> Tensor:
    """Average space-to-channel's output back to C channels (paper, eq. 4).

    With :func:`space_to_channel`'s order the r² values of a group are one channel over its window, so this equals r×r
    average pooling, as in DC-AE's down-sampling shortcut.

    Args:
        windows: ``[B, H/r, W/r, C·r²]``.

    Returns:
        ``[B, H/r, W/r, C]``.
    """
    return windows.unflatten(-1, (-1, ratio * ratio)).mean(-1)  # [B, H/r, W/r, C, r²] -> [B, H/r, W/r, C]


class AveragePool(nn.Module):
    """r×r average pooling of the token grid; no parameters."""

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.ratio = ratio

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        return channel_average(space_to_channel(grid, self.ratio), self.ratio)
