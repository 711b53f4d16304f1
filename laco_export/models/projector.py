"""From the encoder's width to the language model's: LLaVA's projector, and InternVL's with its window outside."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.activations import ACT2FN

from ..token_grid import merged_grid
from .configuration import LacoConfig


class LacoProjector(nn.Module):
    """Linear(C → D), GELU, Linear(D → D), as LLaVA projects.

    With ``projector_window`` r > 1 it reads r×r tokens side by side, ``[…, r²·C]``, position by position; with
    ``projector_norm`` a LayerNorm stands in front: together InternVL's pixel-shuffle and ``mlp1``.
    """

    def __init__(self, config: LacoConfig):
        super().__init__()
        self.window = config.projector_window
        width = config.vision_config.hidden_size * self.window**2
        hidden_size = config.projector_hidden_size or config.text_config.hidden_size
        self.norm = nn.LayerNorm(width) if config.projector_norm else None
        self.linear_1 = nn.Linear(width, hidden_size)
        self.act = nn.GELU() if config.projector_act == "gelu" else ACT2FN[config.projector_act]
        self.linear_2 = nn.Linear(hidden_size, config.text_config.hidden_size)

    def forward(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[B, H·W, C]`` -> ``[B, H·W / window², D]`` for a token grid of H×W."""
        return self.linear_2(self.hidden(features, grid))

    def hidden(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """What the last layer reads: ``[B, H·W, C]`` -> ``[B, H·W / window², hidden]``."""
        if self.window > 1:
            features = side_by_side(features, grid, self.window)  # [B, H·W / window², C·window²]
        if self.norm is not None:
            features = self.norm(features)
        return self.act(self.linear_1(features))


def side_by_side(features: Tensor, grid: tuple[int, int], window: int) -> Tensor:
    """Gather each window's tokens, row by row: ``[B, H·W, C]`` -> ``[B, H·W / window², window²·C]``.

    Channel ``(i·window + j)·C + c`` is channel c of the window's token in row i, column j (InternVL's order).
    """
    height, width = merged_grid(*grid, window)
    tokens = features.unflatten(1, (height, window, width, window))  # [B, H/w, w, W/w, w, C]
    return tokens.transpose(2, 3).flatten(3).flatten(1, 2)
