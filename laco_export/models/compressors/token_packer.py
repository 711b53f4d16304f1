"""TokenPacker as a compressor inside the encoder: coarse queries attend to the fine tokens of their own window.

Source: TokenPacker's ``llava/model/multimodal_projector/builder.py``. Its keys and values come from several encoder
levels; inside an encoder only the levels before the merge exist, so this takes the one at hand (a reading). Its
attention width of 1024 with heads of 128 is the width of its CLIP-L encoder; here it is the encoder's own width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_HEAD_SIZE = 128  # 1024 // 128 = 8 heads, as published


class TokenPacker(nn.Module):
    """Region-to-point attention of r×r tokens by their bilinear down-sample, then an MLP; no shortcut around it."""

    def __init__(self, hidden_size: int, ratio: int, mlp_hidden_size: int):
        super().__init__()
        self.ratio = ratio
        self.num_heads = max(1, hidden_size // _HEAD_SIZE)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query_norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.key, self.key_norm = _projection(hidden_size), nn.LayerNorm(hidden_size, eps=1e-6)
        self.value, self.value_norm = _projection(hidden_size), nn.LayerNorm(hidden_size, eps=1e-6)
        # The in- and out-projections of the published nn.MultiheadAttention.
        self.attention_query = nn.Linear(hidden_size, hidden_size)
        self.attention_key = nn.Linear(hidden_size, hidden_size)
        self.attention_value = nn.Linear(hidden_size, hidden_size)
        self.attention_out = nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, mlp_hidden_size), nn.GELU(), nn.Linear(mlp_hidden_size, hidden_size)
        )

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B, H/r, W/r, C]``."""
        batch, height, width, channels = grid.shape
        height, width = height // self.ratio, width // self.ratio
        channels_first = grid.permute(0, 3, 1, 2)  # [B, C, H, W]
        coarse = F.interpolate(channels_first, (height, width), mode="bilinear").permute(0, 2, 3, 1)
        query = self.attention_query(self.query_norm(self.query(coarse)))  # [B, H/r, W/r, C]
        key = self.attention_key(self.key_norm(self.key(grid)))  # [B, H, W, C]
        value = self.attention_value(self.value_norm(self.value(grid)))
        heads = (self.num_heads, channels // self.num_heads)
        query = query.reshape(-1, 1, *heads).transpose(1, 2)  # [B·H/r·W/r, heads, 1, C/heads]
        key, value = (self._windows(x).unflatten(-1, heads).transpose(1, 2) for x in (key, value))
        packed = F.scaled_dot_product_attention(query, key, value)  # [B·H/r·W/r, heads, 1, C/heads]
        return self.mlp(self.attention_out(packed.reshape(batch, height, width, channels)))

    def _windows(self, grid: Tensor) -> Tensor:
        """``[B, H, W, C]`` -> ``[B·H/r·W/r, r², C]``: each window's own tokens."""
        ratio, channels = self.ratio, grid.shape[-1]
        windows = grid.unflatten(2, (-1, ratio)).unflatten(1, (-1, ratio))  # [B, H/r, r, W/r, r, C]
        return windows.transpose(2, 3).reshape(-1, ratio * ratio, channels)


def _projection(hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
