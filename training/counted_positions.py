"""Logits only where the loss counts.

Of a caption's 170 positions about 20 count, and of a conversation about a tiled picture fewer still. The head is a
quarter of Qwen2.5-0.5B, and its logits over 151,936 words, in FP32 and with their gradient, are a batch's largest
tensors. The other positions' logits reach neither the loss nor the gradient, so they are not computed.
"""

from __future__ import annotations

import torch

from .data.samples import IGNORED


def keep_counted_positions(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Arguments for the language model's ``forward`` that restrict its head to the positions whose next token counts.

    Args:
        labels: int64 [B, T], -100 where no loss is taken; position t's logits answer for label t + 1.

    Returns:
        ``logits_to_keep``: int64 [K], the positions before a token that counts in any row; ``labels`` and
        ``shift_labels``: int64 [B, K], the label after each of them.
    """
    following = labels[:, 1:]  # [B, T-1]
    positions = (following != IGNORED).any(0).nonzero().squeeze(1)  # [K]
    counted = following[:, positions]  # [B, K]
    return {"logits_to_keep": positions, "labels": counted, "shift_labels": counted}
