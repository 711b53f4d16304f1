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
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .bundle import IMAGE_FEATURES, Bundle
from .errors import BundleError

GOLDEN_NAME = "golden.npz"
SAMPLED_TOKENS = 8
"""Tokens kept of each boundary and picture: 32 KiB at 1024 channels, under 4 MiB for 24 blocks and four pictures."""

_NAMES, _PICTURES, _INDICES, _TOKENS = "names", "pictures", "token_indices/", "tokens/"


@dataclass(frozen=True)
class GoldenPictures:
    """What the golden file holds.

    Attributes:
        names: where each picture comes from.
        pictures: uint8 ``[n, H, W, 3]``, resized and cropped.
        image_features: float32 ``[n, tokens, D]``, PyTorch's.
        samples: boundary → (token indices int64 ``[s]``, hidden states float32 ``[n, s, C]``).
    """

    names: list[str]
    pictures: np.ndarray
    image_features: np.ndarray
    samples: dict[str, tuple[np.ndarray, np.ndarray]]


def write_golden(
    folder: Path, names: Sequence[str], pixels: Sequence[np.ndarray], expected: Sequence[dict[str, np.ndarray]]
) -> None:
    """Write the golden file.

    Args:
        pixels: uint8 ``[H, W, 3]`` per picture.
        expected: PyTorch's tensors by name per picture, each with a batch of one.
    """
    arrays = {
        _NAMES: np.array(list(names)),
        _PICTURES: np.stack(pixels),
        IMAGE_FEATURES: np.concatenate([tensors[IMAGE_FEATURES] for tensors in expected]).astype(np.float32),
    }
    for name in expected[0]:
        if name == IMAGE_FEATURES:
            continue
        hidden = np.stack(
            [tensors[name].reshape(-1, tensors[name].shape[-1]) for tensors in expected]
        )  # [n, tokens, C]
        indices = np.linspace(0, hidden.shape[1] - 1, min(SAMPLED_TOKENS, hidden.shape[1])).astype(np.int64)
        arrays[f"{_INDICES}{name}"] = indices
        arrays[f"{_TOKENS}{name}"] = hidden[:, indices].astype(np.float32)
    with open(folder / GOLDEN_NAME, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_golden(bundle: Bundle) -> GoldenPictures:
    """Read the bundle's golden file.

    Raises:
        BundleError: it is missing or cannot be read.
    """
    path = Path(bundle.file(bundle.manifest.golden))
    try:
        with np.load(path, allow_pickle=False) as stored:
            boundaries = [name.removeprefix(_TOKENS) for name in stored.files if name.startswith(_TOKENS)]
            samples = {name: (stored[f"{_INDICES}{name}"], stored[f"{_TOKENS}{name}"]) for name in boundaries}
            names = [str(name) for name in stored[_NAMES]]
            return GoldenPictures(names, stored[_PICTURES], stored[IMAGE_FEATURES], samples)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise BundleError(
            f"'{path}' cannot be read: {type(error).__name__}",
            todo="copy the bundle again, or export it again",
        ) from None
