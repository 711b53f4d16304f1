"""``golden.npz``: pictures with what PyTorch made of them, so that a device without PyTorch can check itself.

::

    names                    [n] str           where each picture comes from
    pictures                 [n, H, W, 3] uint8   at the encoder's size, after resizing and cropping
    image_features           [n, tokens, D] float32   PyTorch's, in full
    token_indices/BOUNDARY   [s] int64         which tokens of a boundary are kept
    tokens/BOUNDARY          [n, s, C] float32 those tokens' hidden states in PyTorch
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bundle import IMAGE_FEATURES, Bundle
from .errors import BundleError
from .stored_arrays import ArrayArchive, open_arrays

GOLDEN_NAME = "golden.npz"
SAMPLED_TOKENS = 8
"""Tokens kept of each boundary and picture: 32 KiB at 1024 channels, under 4 MiB for 24 blocks and four pictures."""

_MOST_BYTES, _MOST_PICTURES, _LONGEST_NAME = 1 << 31, 1024, 4096
"""Of a golden file when it is read; an export takes 16 pictures and keeps some MB of them."""

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
    folder: Path,
    names: Sequence[str],
    pixels: Sequence[np.ndarray],
    expected: Sequence[Mapping[str, np.ndarray]],
    *,
    name: str = GOLDEN_NAME,
) -> None:
    """Write the golden file.

    Args:
        names: where each picture comes from; name: the file's.
        pixels: uint8 ``[H, W, 3]`` per picture.
        expected: PyTorch's tensors by name per picture, each with a batch of one.
    """
    arrays = {
        _NAMES: np.array(list(names)),
        _PICTURES: np.stack(pixels),
        IMAGE_FEATURES: np.concatenate([tensors[IMAGE_FEATURES] for tensors in expected]).astype(np.float32),
    }
    for boundary in expected[0]:
        if boundary == IMAGE_FEATURES:
            continue
        hidden = np.stack(
            [tensors[boundary].reshape(-1, tensors[boundary].shape[-1]) for tensors in expected]
        )  # [n, tokens, C]
        indices = np.linspace(0, hidden.shape[1] - 1, min(SAMPLED_TOKENS, hidden.shape[1])).astype(np.int64)
        arrays[f"{_INDICES}{boundary}"] = indices
        arrays[f"{_TOKENS}{boundary}"] = hidden[:, indices].astype(np.float32)
    with open(folder / name, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_golden(bundle: Bundle) -> GoldenPictures:
    """Read the bundle's golden file.

    Raises:
        BundleError: it is missing or cannot be read, or its arrays are not of the manifest's pictures and graphs.
    """
    manifest = bundle.manifest
    path = Path(bundle.file(manifest.golden))
    prepare, (_, tokens, width) = manifest.image_preprocessing, manifest.vision.graphs[0].output.shape
    with bundle.unchanged(manifest.golden), open_arrays(path) as archive:
        names = archive.read(
            _NAMES,
            lambda dtype, shape: (
                dtype.kind == "U"
                and dtype.itemsize <= 4 * _LONGEST_NAME
                and len(shape) == 1
                and 1 <= shape[0] <= _MOST_PICTURES
            ),
            f"the names of 1 … {_MOST_PICTURES:,} pictures",
        ).tolist()
        if names != manifest.accuracy.get("pictures", names):
            raise BundleError(
                f"'{path}' is not of the pictures that the manifest names",
                given=f"{len(names)} pictures",
                allowed="those of accuracy.pictures",
                todo="copy the bundle again, or export it again",
            )
        count = len(names)
        pictures = _read(archive, _PICTURES, np.uint8, (count, prepare.height, prepare.width, 3))
        features = _read(archive, IMAGE_FEATURES, np.float32, (count, tokens, width))
        left = _MOST_BYTES - pictures.nbytes - features.nbytes
        samples = {}
        for name in (name.removeprefix(_TOKENS) for name in archive.names if name.startswith(_TOKENS)):
            samples[name] = _read_sample(archive, name, count, left)
            left -= samples[name][1].nbytes
    return GoldenPictures(names, pictures, features, samples)


def _read(archive: ArrayArchive, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    def accepts(actual: np.dtype, actual_shape: tuple[int, ...]) -> bool:
        return actual == dtype and actual_shape == shape and np.dtype(dtype).itemsize * math.prod(shape) <= _MOST_BYTES

    return archive.read(name, accepts, f"{np.dtype(dtype)} {list(shape)}, at most {_MOST_BYTES:,} bytes")


def _read_sample(archive: ArrayArchive, name: str, pictures: int, most_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """A boundary's token indices ``[s]`` and hidden states ``[n, s, C]``."""
    indices = archive.read(
        f"{_INDICES}{name}",
        lambda dtype, shape: dtype == np.int64 and len(shape) == 1 and 1 <= shape[0] <= SAMPLED_TOKENS,
        f"int64 [1 … {SAMPLED_TOKENS}]",
    )
    if indices.min() < 0:
        raise BundleError(
            f"the golden file has a token before the first: {name}", todo="copy the bundle again, or export it again"
        )
    sampled = (pictures, len(indices))
    tokens = archive.read(
        f"{_TOKENS}{name}",
        lambda dtype, shape: (
            dtype == np.float32 and len(shape) == 3 and shape[:2] == sampled and 4 * math.prod(shape) <= most_bytes
        ),
        f"float32 [{sampled[0]}, {sampled[1]}, C], at most {most_bytes:,} bytes",
    )
    return indices, tokens
