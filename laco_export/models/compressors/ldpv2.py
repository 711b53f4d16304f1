"""LDPv2, MobileVLM V2's lightweight downsample projector, as a compressor inside the encoder.

Source: ``mobilevlm/model/vision_projector.py`` (feature transform, token reduction, positional encoding generator).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Ldpv2(nn.Module):
    """``P + DepthwiseConv3x3(P)`` with ``P = AvgPool_r(Linear(GELU(Linear(X))))``; no shortcut around it."""

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.ratio = ratio
        self.linear_1 = nn.Linear(hidden_size, mlp_hidden_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(mlp_hidden_size, hidden_size)
        self.position = nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        hidden = self.linear_2(self.act(self.linear_1(grid)))  # [B, H, W, C]
        # H and W are multiples of r, where adaptive pooling to H/r x W/r is r x r pooling.
        pooled = F.avg_pool2d(hidden.permute(0, 3, 1, 2), self.ratio)  # [B, C, H/r, W/r]
        return (pooled + self.position(pooled)).permute(0, 2, 3, 1)  # [B, H/r, W/r, C]
