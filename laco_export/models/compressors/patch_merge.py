"""LaCo's Patch Merge Layer (paper, section 3.2, eq. 3 to 5), with and without its residual branch."""

from __future__ import annotations

from torch import Tensor, nn

from .average_pool import channel_average
from .space_to_channel import space_to_channel


class PatchMergeMLP(nn.Module):
    """Two-layer MLP from a window's channels back to the encoder's width: ``[…, C·r²] -> […, C]`` (eq. 3).

    The paper does not say how the MLP is normalised; this takes InternVL's ``mlp1``: LayerNorm, Linear, GELU, Linear.
    """

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size * ratio * ratio)
        self.linear_1 = nn.Linear(hidden_size * ratio * ratio, mlp_hidden_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(mlp_hidden_size, hidden_size)

    def forward(self, windows: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(self.norm(windows))))


class PixelShuffle(nn.Module):
    """The Patch Merge Layer's MLP branch alone, as InternVL compresses: no residual."""

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.ratio = ratio
        self.mlp = PatchMergeMLP(hidden_size, ratio, mlp_hidden_size)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        return self.mlp(space_to_channel(grid, self.ratio))


class LacoCompressor(nn.Module):
    """The Patch Merge Layer with its parameter-free residual: ``MLP(s2c(X)) + average(s2c(X))`` (eq. 5)."""

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.ratio = ratio
        self.mlp = PatchMergeMLP(hidden_size, ratio, mlp_hidden_size)
        self.residual = ChannelAverage(ratio)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        windows = space_to_channel(grid, self.ratio)  # [B, H/r, W/r, C·r²]
        return self.mlp(windows) + self.residual(windows)


class LacoMisaligned(LacoCompressor):
    """An ablation: the residual averages contiguous groups of InternVL's position-major pixel-shuffle order.

    In that order r² contiguous values are neighbouring *channels* of one token, so the average mixes channels that have
    nothing to do with each other. It shows what the alignment of LaCo's residual is worth; not for use.
    """

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        windows = space_to_channel(grid, self.ratio)  # [B, H/r, W/r, C·r²], channel-major
        position_major = windows.unflatten(-1, (-1, self.ratio**2)).transpose(-1, -2).flatten(-2)
        return self.mlp(windows) + self.residual(position_major)


class ChannelAverage(nn.Module):
    """The residual branch as a module, so that it has a name in traces and comparisons."""

    def __init__(self, ratio: int):
        super().__init__()
        self.ratio = ratio

    def forward(self, windows: Tensor) -> Tensor:
        """``[B, H/r, W/r, C·r²]`` -> ``[B, H/r, W/r, C]``."""
        return channel_average(windows, self.ratio)
