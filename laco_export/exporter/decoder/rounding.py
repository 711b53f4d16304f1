"""Layers' weights to few bits, over text: each weight's rounding error is made good by the weights after it.

GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns of a matrix are rounded in order, and what rounding a column did
to the layer's outputs is taken back by the columns that are still to come, as the inputs' second moments say. The text
passes the layers once; each is rounded when it is met and handed on as it will be shipped, so that later layers make
good what earlier ones lost. Without text, or with eight bits, each weight goes to the nearest number of its grid.

A grid is a scale and a whole zero point a block, by the squared error that the inputs' moments weigh
(:func:`~..n_bits.grid_of_blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...errors import ExportError
from ...machine import default_threads
from ..n_bits import RoundedMatrix, centred_numbers, grid_of_blocks, pack_numbers, quantize_blocks, stack_rounded
from .precision import DecoderPrecision, block_size_for
from .prompts import DecoderPrompt
from .skeleton import HEAD

DAMPING = 0.01
"""Share of the mean second moment that is added to each: the paper's, against moments of directions not seen."""

_COLUMNS = 32  # that correct one another column by column; the later ones of a block are corrected at once
_ROWS = 448  # rounded at a time: a block's weights and what is worked out of them stay in a core's cache


def round_layers(
    language_model,
    precision: DecoderPrecision,
    prompts: Iterable[DecoderPrompt],
    eight_bit: frozenset[str] = frozenset(),
    advance: Callable[..., None] | None = None,
) -> dict[str, RoundedMatrix]:
    """The rounded matrix of each linear layer but the head, by its module's name.

    Args:
        prompts: text of one length; empty rounds each weight to the nearest.
        eight_bit: modules that keep eight bits.
    """
    layers = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and name != HEAD
    }
    prompts = list(prompts)
    if not prompts or not precision.zero_points:
        return {name: _nearest(module.weight, precision, name in eight_bit) for name, module in layers.items()}
    rounded: dict[str, RoundedMatrix] = {}
    moments = _Moments()
    with torch.inference_mode(), ExitStack() as undo:
        for name, module in layers.items():
            module.forward = _rounding_forward(name, module, precision, eight_bit, moments, rounded)
            undo.callback(module.__dict__.pop, "forward")
        table = language_model.get_input_embeddings().weight
        embeds = torch.from_numpy(np.stack([prompt.embeds(table) for prompt in prompts]))  # [B, T, D]
        language_model.base_model(inputs_embeds=embeds.to(table.dtype), use_cache=False)
    return rounded


def require_finite(language_model) -> None:
    """Raise :class:`~laco_export.errors.ExportError` where a weight is inf or NaN, naming it."""
    for name, weight in language_model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise ExportError(
                "the language model has weights that are inf or NaN, which have no rounding",
                given=f"'{name}', {' x '.join(map(str, weight.shape))}",
                todo="train or download the checkpoint again",
            )


def bits_a_weight(rounded: dict[str, RoundedMatrix]) -> float:
    """What is stored of each weight in the mean, scales and zero points counted."""
    weights = sum(len(matrix.blocks) * matrix.columns for matrix in rounded.values())
    return sum(matrix.nbytes for matrix in rounded.values()) * 8 / max(weights, 1)


def _rounding_forward(name, module, precision, eight_bit, moments, rounded):
    def forward(hidden):
        wide = name in eight_bit
        if wide:
            matrix = _nearest(module.weight, precision, True)
        else:
            matrix = compensated(module.weight.detach().float(), *moments.of(hidden), precision)
        rounded[name] = matrix
        weight = torch.from_numpy(matrix.dequantized()).to(hidden.dtype)
        return functional.linear(hidden, weight, module.bias)

    return forward


class _Moments:
    """The inputs' second moments; layers that read the same input share them."""

    def __init__(self):
        self._read: torch.Tensor | None = None
        self._result: tuple[torch.Tensor, torch.Tensor] | None = None

    def of(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(factor [K, K], diagonal [K])``: the upper Cholesky factor of the inverse, and the moments' diagonal."""
        if hidden is not self._read:
            flat = hidden.reshape(-1, hidden.shape[-1]).float()  # [tokens, K]
            second = flat.T @ flat / len(flat)
            diagonal = second.diagonal().clone()
            second.diagonal().add_(max(float(diagonal.mean()) * DAMPING, 1e-12))
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(second))
            self._read, self._result = hidden, (torch.linalg.cholesky(inverse, upper=True), diagonal)
        return self._result


def compensated(
    weight: torch.Tensor, factor: torch.Tensor, diagonal: torch.Tensor, precision: DecoderPrecision
) -> RoundedMatrix:
    """A matrix ``[N, K]`` rounded column by column, each error made good by the columns after it.

    Args:
        factor: ``[K, K]``, upper: of the inverse of the inputs' second moments.
        diagonal: ``[K]``, of the moments.
    """
    columns = weight.shape[1]
    size = block_size_for(columns, precision.block_size)
    importance = np.zeros((-(-columns // size), size), np.float32)
    importance.reshape(-1)[:columns] = diagonal.numpy()
    importance += max(float(importance.mean()) * DAMPING, 1e-12)
    parts = [weight[start : start + _ROWS] for start in range(0, len(weight), _ROWS)]
    with ThreadPoolExecutor(default_threads()) as pool:  # rows do not see one another
        return stack_rounded(list(pool.map(lambda part: _compensated_rows(part, factor, importance, precision), parts)))


def _compensated_rows(
    weight: torch.Tensor, factor: torch.Tensor, importance: np.ndarray, precision: DecoderPrecision
) -> RoundedMatrix:
    rows, columns = weight.shape
    count, size = importance.shape
    left = weight.T.contiguous()  # [K, N]
    numbers = np.zeros((rows, count, size), np.float32)
    scales, zeros = np.empty((rows, count), np.float32), np.empty((rows, count), np.float32)
    for block in range(count):
        start, stop = block * size, min((block + 1) * size, columns)
        part = left[start:stop].numpy()  # [columns of the block, N]
        padded = np.zeros((rows, 1, size), np.float32)
        padded[:, 0, : stop - start] = part.T
        grid = grid_of_blocks(padded, precision.bits, importance[block : block + 1])
        scales[:, block], zeros[:, block] = (values[:, 0] for values in grid)
        within = factor[start:stop, start:stop].numpy()
        rounded, errors = _round_columns(part, within, scales[:, block].copy(), zeros[:, block].copy(), precision.bits)
        numbers[:, block, : stop - start] = rounded.T
        left[stop:] -= factor[start:stop, stop:].T @ torch.from_numpy(errors)
    return pack_numbers(numbers, scales, zeros, precision.bits, columns)


def _round_columns(block: np.ndarray, factor: np.ndarray, scales, zeros, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Round the columns of one block, each making good what those before it lost.

    Args:
        block: float32 ``[columns, N]``; left as what was to be rounded.
        factor: ``[columns, columns]``, upper.

    Returns:
        the numbers without their zero points, and each column's error over its diagonal entry; both ``[columns, N]``.
    """
    numbers, errors = np.empty_like(block), np.empty_like(block)
    low = -zeros
    high = low + np.float32((1 << bits) - 1)
    for start in range(0, len(block), _COLUMNS):
        stop = min(start + _COLUMNS, len(block))
        for column in range(start, stop):
            number = np.rint(block[column] / scales, out=numbers[column])
            np.clip(number, low, high, out=number)
            errors[column] = (block[column] - number * scales) / factor[column, column]
            block[column + 1 : stop] -= factor[column, column + 1 : stop, None] * errors[column]
        block[stop:] -= factor[start:stop, stop:].T @ errors[start:stop]
    return numbers, errors


def _nearest(weight: torch.Tensor, precision: DecoderPrecision, wide: bool) -> RoundedMatrix:
    """Each weight ``[N, K]`` to the nearest number of its block's grid."""
    rows, columns = weight.shape
    size = block_size_for(columns, precision.block_size)
    if wide or not precision.zero_points:
        bits = 8 if wide else precision.bits
        blocks, scales = quantize_blocks(weight.detach().float().numpy(), bits, size)
        return RoundedMatrix(blocks, scales.reshape(blocks.shape[:2]), None, bits, columns)
    count, bits = -(-columns // size), precision.bits
    parts = []
    for start in range(0, rows, _ROWS):
        part = weight[start : start + _ROWS].detach().float().numpy()
        blocks = np.zeros((len(part), count * size), np.float32)
        blocks[:, :columns] = part
        blocks = blocks.reshape(len(part), count, size)
        scales, zeros = grid_of_blocks(blocks, bits)
        parts.append(pack_numbers(centred_numbers(blocks, scales, zeros, bits), scales, zeros, bits, columns))
    return stack_rounded(parts)
