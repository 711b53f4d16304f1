"""A picture that nobody sees, for a batch without any.

FSDP and DeepSpeed gather a block's weights from all processes when it runs: a process whose batch is text alone must
run the vision tower all the same, or the others wait for it for ever. And in stage 1, where the language model is
frozen, such a batch would reach nothing that is trained. So a blank tile is encoded into tokens that stand in the
padding behind the longest text: no position attends to them, none counts, and they add zero to every gradient.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from laco_export.models.encoders import encoder_spec

from .data.samples import IGNORED


def add_padding_picture(batch: dict, config) -> dict:
    """A text-only batch with one blank tile behind its rows.

    Args:
        batch: ``input_ids``, ``labels`` [B, T], and ``attention_mask`` [B, T] or, packed, ``position_ids`` [1, T].
        config: the model's :class:`~laco_export.models.configuration.LacoConfig`.
    """
    vision = config.vision_config
    spec = encoder_spec(vision.model_type)
    height, width = config.token_grid
    tokens, rows = height * width, len(batch["input_ids"])
    padding = (0, tokens)
    ids = F.pad(batch["input_ids"], padding, value=config.text_config.pad_token_id or 0)  # [B, T + tokens]
    ids[0, -tokens:] = config.image_token_id
    added = {"input_ids": ids, "labels": F.pad(batch["labels"], padding, value=IGNORED)}
    if "attention_mask" in batch:
        added["attention_mask"] = F.pad(batch["attention_mask"], padding, value=0)
    if "position_ids" in batch:  # a packed row: the picture is one more sample of its own
        added["position_ids"] = torch.cat((batch["position_ids"], torch.arange(tokens).expand(rows, -1).to(ids)), dim=1)
    pixels = torch.zeros(1, vision.num_channels, *spec.image_size(vision), device=ids.device)
    return {**batch, **added, "pixel_values": pixels}
