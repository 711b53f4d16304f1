"""``golden.npz``: pictures with what PyTorch made of them, so that a device without PyTorch can check itself.

::

    names                    [n] str           where each picture comes from
    pictures                 [n, H, W, 3] uint8   at the encoder's size, after resizing and cropping
    image_features           [n, tokens, D] float32   PyTorch's, in full
    token_indices/BOUNDARY   [s] int64         which tokens of a boundary are kept
    tokens/BOUNDARY          [n, s, C] float32 those tokens' hidden states in PyTorch
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .tower import OUTPUT

FILE_NAME = "golden.npz"
SAMPLED_TOKENS = 8
"""Tokens kept of each boundary and picture: 32 KiB at 1024 channels, under 4 MiB for 24 blocks and four pictures."""


def write_golden(
    folder: Path, names: Sequence[str], pixels: Sequence[np.ndarray], expected: Sequence[dict[str, np.ndarray]]
) -> None:
    """Write the golden file.

    Args:
        pixels: uint8 ``[H, W, 3]`` per picture.
        expected: PyTorch's tensors by name per picture, each with a batch of one.
    """
    arrays = {
        "names": np.array(list(names)),
        "pictures": np.stack(pixels),
        OUTPUT: np.concatenate([tensors[OUTPUT] for tensors in expected]).astype(np.float32),
    }
    for name in expected[0]:
        if name == OUTPUT:
            continue
        hidden = np.stack(
            [tensors[name].reshape(-1, tensors[name].shape[-1]) for tensors in expected]
        )  # [n, tokens, C]
        indices = np.linspace(0, hidden.shape[1] - 1, min(SAMPLED_TOKENS, hidden.shape[1])).astype(np.int64)
        arrays[f"token_indices/{name}"] = indices
        arrays[f"tokens/{name}"] = hidden[:, indices].astype(np.float32)
    with open(folder / FILE_NAME, "wb") as file:
        np.savez_compressed(file, **arrays)
