"""Each merge by its definition: each r×r window of the token grid, gathered by its rows and columns, in NumPy.

LaCo's Patch Merge Layer (paper, eq. 3 to 5) and its relatives; not ``ldpv2`` and ``token_packer``, whose windows
neighbours look into or attention weighs. PyTorch's own golden run is what is watched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import nn

from ..tower import VisionTower
from .independent_check import IndependentCheck, compare_cases

_ROUNDING = 1e-4  # the layer sums C·r² products (4,096 of them at C 1024) twice, in float32


def check_merged_windows(tower: VisionTower, expected: Sequence[Mapping[str, np.ndarray]]) -> IndependentCheck | None:
    """Compare what PyTorch merged of the golden pictures with the definition, at each merge of the path; None where
    there is no definition here.

    Args:
        expected: PyTorch's boundaries by name, of each picture, with a batch of one.

    Raises:
        ExportError: they differ.
    """
    vision = tower.vision_model
    if vision.path is None or vision.compression.method not in _DEFINITIONS:
        return None
    define, prefix = _DEFINITIONS[vision.compression.method], vision.spec.prefix_tokens

    def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        grid = vision.grid
        for name, ratio in zip(vision.path.module_names, vision.path.ratios):
            merge = f"vision_model.compressors.{name}"
            before, weights = _boundary_before(tower, merge), _float64_weights(vision.merge_module(name))
            at = f", {merge}" if len(vision.path.ratios) > 1 else ""
            for number, tensors in enumerate(expected, 1):
                windows = _windows(tensors[before][0, prefix:], grid, ratio)
                yield f"picture {number}{at}", tensors[merge][0, prefix:], define(windows, weights)
            grid = math.ceil(grid[0] / ratio), math.ceil(grid[1] / ratio)

    return compare_cases("merged tokens", "the definition of the merge", cases(), rounding=_ROUNDING)


def _boundary_before(tower: VisionTower, merge: str) -> str:
    """The name of what a merge reads."""
    earlier = tower.boundary_names[: tower.boundary_names.index(merge)]
    return [name for name in earlier if name != f"{merge}.residual"][-1]


def _float64_weights(compressor: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in compressor.state_dict().items()}


def _windows(tokens: np.ndarray, grid: tuple[int, int], ratio: int) -> np.ndarray:
    """Tokens ``[H·W, C]`` to windows ``[⌈H/r⌉·⌈W/r⌉, r², C]``, row by row; the last row and column stand in for what a
    window lacks."""
    height, width = grid
    return np.stack(
        [
            [
                tokens[min(top + row, height - 1) * width + min(left + column, width - 1)]
                for row in range(ratio)
                for column in range(ratio)
            ]
            for top in range(0, height, ratio)
            for left in range(0, width, ratio)
        ]
    ).astype(np.float64)


def _mean(windows: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """The residual: ``[n, r², C]`` -> ``[n, C]``."""
    return windows.mean(axis=1)


def _mlp(windows: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """LayerNorm, Linear, GELU, Linear over a window's channels, those of its tokens side by side for each channel."""
    values = windows.transpose(0, 2, 1).reshape(len(windows), -1)  # [n, C·r²]
    centred = values - values.mean(axis=1, keepdims=True)
    values = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    values = values * weights["mlp.norm.weight"] + weights["mlp.norm.bias"]
    values = values @ weights["mlp.linear_1.weight"].T + weights["mlp.linear_1.bias"]
    values = 0.5 * values * (1 + _erf(values / math.sqrt(2)))
    return values @ weights["mlp.linear_2.weight"].T + weights["mlp.linear_2.bias"]


_erf = np.vectorize(math.erf, otypes=[np.float64])

_DEFINITIONS = {
    "laco": lambda windows, weights: _mlp(windows, weights) + _mean(windows, weights),
    "pixel_shuffle": _mlp,
    "average_pool": _mean,
}
