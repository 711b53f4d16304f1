"""Layers' weights to few bits, over text: each weight's rounding error is made good by the weights after it.

The text passes the layers once; each is rounded when it is met (:mod:`.compensation`) and handed on as it will be
shipped, so that later layers make good what earlier ones lost. Without text, or with eight bits, each weight goes to
the nearest number of its grid: a scale and a whole zero point a block (:func:`~..n_bits.grid_of_blocks`). A matrix
that was dequantised from such a grid, as AWQ and GPTQ store it, keeps it and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...errors import ExportError
from ..n_bits import (
    RoundedMatrix,
    centred_numbers,
    grid_of_blocks,
    own_grid,
    pack_numbers,
    quantize_blocks,
    stack_rounded,
)
from .compensation import LayerMoments, compensated
from .precision import DecoderPrecision, block_size_for
from .prompts import DecoderPrompt
from .skeleton import linear_layers

_FIRST_ROWS = 4  # tell most matrices that lie on no grid
_ROWS = 448  # rounded at a time: what is worked out of them stays in a core's cache


def round_layers(
    language_model,
    precision: DecoderPrecision,
    prompts: Iterable[DecoderPrompt],
    eight_bit: frozenset[str] = frozenset(),
) -> Mapping[str, RoundedMatrix]:
    """The rounded matrix of each linear layer but the head, by its module's name.

    Args:
        prompts: text of one length; empty rounds each weight to the nearest.
        eight_bit: modules that keep eight bits.
    """
    layers = linear_layers(language_model)
    prompts = list(prompts)
    if not prompts or not precision.zero_points:
        return NearestMatrices(layers, precision, eight_bit)
    rounded: dict[str, RoundedMatrix] = {}
    moments = LayerMoments(precision)
    with torch.inference_mode(), ExitStack() as undo:
        for name, module in layers.items():
            module.forward = _rounding_forward(name, module, precision, eight_bit, moments, rounded)
            undo.callback(module.__dict__.pop, "forward")
        table = language_model.get_input_embeddings().weight
        embeds = torch.from_numpy(np.stack([prompt.embeds(table) for prompt in prompts]))  # [B, T, D]
        language_model.base_model(inputs_embeds=embeds.to(table.dtype), use_cache=False)
    return rounded


class NearestMatrices(Mapping):
    """Each matrix rounded to the nearest when it is asked for, so that no more than one is in memory."""

    def __init__(self, layers: Mapping[str, nn.Linear], precision: DecoderPrecision, eight_bit: frozenset[str]):
        self._layers, self._precision, self._eight_bit = layers, precision, eight_bit

    def __getitem__(self, name: str) -> RoundedMatrix:
        return _nearest(self._layers[name].weight, self._precision, name in self._eight_bit)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def on_own_grid(weight: torch.Tensor, precision: DecoderPrecision) -> RoundedMatrix | None:
    """A matrix ``[N, K]`` on the grid that it lies on already (:func:`~..n_bits.own_grid`); None where it does not."""
    columns, parts = weight.shape[1], []
    size = block_size_for(columns, precision.block_size)
    if own_grid(next(_parts(weight[:_FIRST_ROWS], size)), precision.bits) is None:
        return None
    for blocks in _parts(weight, size):
        grid = own_grid(blocks, precision.bits)
        if grid is None:
            return None
        parts.append(_packed(blocks, grid, precision, columns))
    return stack_rounded(parts)


def require_finite(language_model) -> None:
    """Raise :class:`~laco_export.errors.ExportError` where a weight is inf or NaN, naming it."""
    for name, weight in language_model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise ExportError(
                "the language model has weights that are inf or NaN, which have no rounding",
                given=f"'{name}', {' x '.join(map(str, weight.shape))}",
                todo="train or download the checkpoint again",
            )


def bits_a_weight(matrices: Iterable[RoundedMatrix]) -> float:
    """What is stored of each weight in the mean, scales and zero points counted."""
    counts = [(matrix.nbytes * 8, len(matrix.blocks) * matrix.columns) for matrix in matrices]
    return sum(bits for bits, _ in counts) / max(sum(weights for _, weights in counts), 1)


def _rounding_forward(name, module, precision, eight_bit, moments, rounded):
    def forward(hidden):
        wide = name in eight_bit
        if wide:
            matrix = _nearest(module.weight, precision, True)
        else:
            matrix = on_own_grid(module.weight, precision)
            matrix = matrix or compensated(module.weight.detach().float(), moments.of(hidden), precision)
        rounded[name] = matrix
        weight = torch.from_numpy(matrix.dequantized()).to(hidden.dtype)
        return functional.linear(hidden, weight, module.bias)

    return forward


def _nearest(weight: torch.Tensor, precision: DecoderPrecision, wide: bool) -> RoundedMatrix:
    """Each weight ``[N, K]`` to the nearest number of its block's grid."""
    columns = weight.shape[1]
    size = block_size_for(columns, precision.block_size)
    if wide or not precision.zero_points:
        bits = 8 if wide else precision.bits
        blocks, scales = quantize_blocks(weight.detach().float().numpy(), bits, size)
        return RoundedMatrix(blocks, scales.reshape(blocks.shape[:2]), None, bits, columns)
    return on_own_grid(weight, precision) or stack_rounded(
        [_packed(blocks, grid_of_blocks(blocks, precision.bits), precision, columns) for blocks in _parts(weight, size)]
    )


def _parts(weight: torch.Tensor, size: int) -> Iterator[np.ndarray]:
    """Some rows at a time in blocks, the last one padded with zeros: float32 ``[rows, blocks, size]``."""
    for start in range(0, len(weight), _ROWS):
        rows = weight[start : start + _ROWS].detach().float()
        yield functional.pad(rows, (0, -rows.shape[1] % size)).reshape(len(rows), -1, size).numpy()


def _packed(blocks: np.ndarray, grid: tuple[np.ndarray, np.ndarray], precision: DecoderPrecision, columns: int):
    return pack_numbers(centred_numbers(blocks, *grid, precision.bits), *grid, precision.bits, columns)
