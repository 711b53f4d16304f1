"""Layers' weights to few bits, over text: each weight's rounding error is made good by the weights after it.

GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns of a matrix are rounded in order, and what rounding a column did
to the layer's outputs is taken back by the columns that are still to come, as the inputs' second moments say. The text
passes the layers once; each is rounded when it is met and handed on as it will be shipped, so that later layers make
good what earlier ones lost. Without text, or with eight bits, each weight goes to the nearest number of its grid.

A grid is a scale and a whole zero point a block, by the squared error that the inputs' moments weigh
(:func:`~..n_bits.grid_of_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...errors import ExportError
from ...machine import default_threads
from ..n_bits import RoundedMatrix, centred_numbers, grid_of_blocks, pack_numbers, quantize_blocks, stack_rounded
from .precision import DecoderPrecision, block_size_for
from .prompts import DecoderPrompt
from .skeleton import linear_layers

DAMPING = 0.01
"""Share of the mean second moment that is added to each: the paper's, against moments of directions not seen."""

_GROUP_COLUMNS = 2048  # whose moments are inverted together
_COLUMNS = 32  # that correct one another column by column; the later ones of a block are corrected at once
_ROWS = 448  # rounded at a time: a block's weights and what is worked out of them stay in a core's cache


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
    moments = _Moments()
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
            matrix = compensated(module.weight.detach().float(), moments.of(hidden, precision), precision)
        rounded[name] = matrix
        weight = torch.from_numpy(matrix.dequantized()).to(hidden.dtype)
        return functional.linear(hidden, weight, module.bias)

    return forward


@dataclass(frozen=True)
class InputMoments:
    """The second moments of some of a layer's inputs.

    Attributes:
        factor: ``[K, K]``, the upper Cholesky factor of their inverse.
        diagonal: ``[K]``.
    """

    factor: torch.Tensor
    diagonal: torch.Tensor

    @classmethod
    def of(cls, inputs: torch.Tensor) -> InputMoments:
        """Of ``[tokens, K]``."""
        second = inputs.T @ inputs / len(inputs)
        diagonal = second.diagonal().clone()
        second.diagonal().add_(max(float(diagonal.mean()) * DAMPING, 1e-12))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(second))
        return cls(torch.linalg.cholesky(inverse, upper=True), diagonal)

    def importance(self, block_size: int) -> np.ndarray:
        """What a squared error of each weight counts: ``[blocks, block_size]``."""
        counted = np.zeros(-(-len(self.diagonal) // block_size) * block_size, np.float32)
        counted[: len(self.diagonal)] = self.diagonal.numpy()
        counted += max(float(self.diagonal.mean()) * DAMPING, 1e-12)
        return counted.reshape(-1, block_size)


class _Moments:
    """The inputs' second moments; layers that read the same input share them."""

    def __init__(self):
        self._read: torch.Tensor | None = None
        self._result: list[InputMoments] = []

    def of(self, hidden: torch.Tensor, precision: DecoderPrecision) -> list[InputMoments]:
        """Of inputs ``[..., K]``, a group of neighbouring columns each."""
        if hidden is not self._read:
            flat = hidden.reshape(-1, hidden.shape[-1]).float()  # [tokens, K]
            self._result = [InputMoments.of(flat[:, columns]) for columns in column_groups(flat.shape[1], precision)]
            self._read = hidden
        return self._result


def column_groups(columns: int, precision: DecoderPrecision) -> list[slice]:
    """Whole blocks of neighbouring columns, as even as they go: a layer's moments take the cube of its inputs to
    invert, and errors that are made good within a third of 4,864 columns are nearly all there are."""
    size = block_size_for(columns, precision.block_size)
    blocks, groups = -(-columns // size), -(-columns // _GROUP_COLUMNS)
    ends = [min(blocks * number // groups * size, columns) for number in range(1, groups + 1)]
    return [slice(start, stop) for start, stop in zip([0, *ends], ends)]


def compensated(weight: torch.Tensor, moments: list[InputMoments], precision: DecoderPrecision) -> RoundedMatrix:
    """A matrix ``[N, K]`` rounded column by column, each error made good by the columns after it in its group.

    Args:
        moments: of the inputs, by :func:`column_groups`.
    """
    groups = column_groups(weight.shape[1], precision)
    size = block_size_for(weight.shape[1], precision.block_size)

    def of_rows(start: int) -> RoundedMatrix:
        rows = weight[start : start + _ROWS]
        parts = [
            _compensated_rows(rows[:, columns], part.factor, part.importance(size), precision.bits)
            for columns, part in zip(groups, moments, strict=True)
        ]
        joined = (np.concatenate([getattr(p, f) for p in parts], axis=1) for f in ("blocks", "scales", "zero_points"))
        return RoundedMatrix(*joined, precision.bits, weight.shape[1])

    with ThreadPoolExecutor(default_threads()) as pool:  # rows do not see one another
        return stack_rounded(list(pool.map(of_rows, range(0, len(weight), _ROWS))))


def _compensated_rows(weight: torch.Tensor, factor: torch.Tensor, importance: np.ndarray, bits: int) -> RoundedMatrix:
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
        grid = grid_of_blocks(padded, bits, importance[block : block + 1])
        scales[:, block], zeros[:, block] = (values[:, 0] for values in grid)
        within = factor[start:stop, start:stop].numpy()
        rounded, errors = _round_columns(part, within, scales[:, block].copy(), zeros[:, block].copy(), bits)
        numbers[:, block, : stop - start] = rounded.T
        left[stop:] -= factor[start:stop, stop:].T @ torch.from_numpy(errors)
    return pack_numbers(numbers, scales, zeros, bits, columns)


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
