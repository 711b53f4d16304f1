"""The half-precision formats: what each can hold and how it rounds."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import torch


@dataclass(frozen=True)
class HalfFormat:
    """A 16-bit floating-point format.

    Attributes:
        name: as ``--fp16`` and ``--bf16`` spell it.
        numpy, torch: its dtype in both (numpy has no bfloat16; ``ml_dtypes``, which onnx brings, lends it one).
    """

    name: str
    numpy: np.dtype
    torch: torch.dtype

    @property
    def largest(self) -> float:
        """Its largest finite number: 65504 for FP16, 3.4e38 for bfloat16."""
        return float(torch.finfo(self.torch).max)

    @property
    def rounding(self) -> float:
        """A normal number rounds by at most this share of itself: 2⁻¹¹ for FP16, 2⁻⁸ for bfloat16."""
        return float(torch.finfo(self.torch).eps) / 2

    @property
    def in_words(self) -> str:
        return {"fp16": "half", "bf16": "bfloat16"}[self.name]


FP16 = HalfFormat("fp16", np.dtype(np.float16), torch.float16)
BF16 = HalfFormat("bf16", np.dtype(ml_dtypes.bfloat16), torch.bfloat16)
HALF_FORMATS = {form.name: form for form in (FP16, BF16)}
"""By precision name."""
