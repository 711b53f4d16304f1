"""Samples to a batch: padded at the right, or packed into one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .broken import BatchNotes
from .samples import IGNORED

_PICTURES = ("pixel_values", "image_sizes")


class Collator:
    """Joins samples; pictures of all samples follow each other in reading order.

    Args:
        pad_token_id: fills the rows behind their samples.
        packed: put the samples into one row ``[1, T]`` without padding. ``position_ids`` start anew with each and there
            is no ``attention_mask``: transformers makes the block-diagonal mask of these itself. No label crosses from
            one sample to the next, because a sample's first token never counts.
    """

    def __init__(self, pad_token_id: int, *, packed: bool = False):
        self.pad_token_id, self.packed = pad_token_id, packed

    def __call__(self, samples: Sequence[dict]) -> dict:
        """A batch as the model's keyword arguments, and its notes.

        Returns:
            ``input_ids`` and ``labels`` ``[B, T]``, ``attention_mask`` or ``position_ids``, ``pixel_values``
            ``[tiles, 3, H, W]``, ``image_sizes`` ``[num_images, 2]``, and ``notes``; these alone where a sample's
            place could not be filled.
        """
        notes = BatchNotes.joined([sample["notes"] for sample in samples])
        if not notes.complete:
            return {"notes": notes}
        batch = self._packed(samples) if self.packed else self._padded(samples)
        for name in _PICTURES:
            if values := [sample[name] for sample in samples if name in sample]:
                batch[name] = torch.cat(values)
        return {**batch, "notes": notes}

    def _padded(self, samples: Sequence[dict]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        ids = [sample["input_ids"] for sample in samples]
        return {
            "input_ids": pad(ids, batch_first=True, padding_value=self.pad_token_id),  # [B, T]
            "labels": pad([s["labels"] for s in samples], batch_first=True, padding_value=IGNORED),  # [B, T]
            "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),  # [B, T]
        }

    @staticmethod
    def _packed(samples: Sequence[dict]) -> dict[str, torch.Tensor]:
        return {
            "input_ids": torch.cat([sample["input_ids"] for sample in samples])[None],  # [1, T]
            "labels": torch.cat([sample["labels"] for sample in samples])[None],  # [1, T]
            "position_ids": torch.cat([torch.arange(len(sample["input_ids"])) for sample in samples])[None],  # [1, T]
        }
