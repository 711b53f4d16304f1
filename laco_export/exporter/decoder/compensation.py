"""A matrix to few bits over text: what rounding a column loses is made good by the columns after it.

GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one after the other, and what rounding one did to the
layer's outputs is taken back by those that are still to come, as the inputs' second moments say. Three choices are made
by that same measure, the loss that is left once the later columns have done their part:

- **order**: blocks whose inputs are largest go first, and inside a block its largest inputs, so that what counts most
  has the most columns left to make it good (the paper's later ``act-order``; blocks stay whole, so that the stored
  matrix needs no index of columns);
- **the grid** of a block, among those of :func:`~..n_bits.fitted_grids`: each row rounds with all and keeps the best;
- **the scale**, fitted to the numbers that were chosen; with it the row is rounded once more where that is better.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ...machine import default_threads
from ..n_bits import RoundedMatrix, fitted_grids, fitted_scales, pack_numbers, stack_rounded
from .precision import DecoderPrecision, block_size_for

DAMPING = 0.01
"""Share of the mean second moment that is added to each: the paper's, against moments of directions not seen."""

_GROUP_COLUMNS = 2048  # whose moments are inverted together
_COLUMNS = 4  # that correct one another column by column; wider runs are halved and corrected by a product
_ROWS = 512  # rounded at a time: a block's weights and what is worked out of them stay in a core's cache
_FITS = 2  # of a scale to its numbers, a rounding between them


@dataclass(frozen=True)
class InputMoments:
    """The second moments of some of a layer's inputs, blocks and columns in the order that they are rounded in.

    Attributes:
        blocks: int64, each block's columns, the first to be rounded first.
        numbers: each of these blocks' place in the matrix.
        factor: ``[K, K]`` in that order, the upper Cholesky factor of the moments' inverse.
        importance: float32 ``[K]`` in that order: what a squared error of each weight counts.
        unmixing: of each block, ``[columns, columns]``: takes its rounding errors to what later blocks cannot mend.
    """

    blocks: tuple[np.ndarray, ...]
    numbers: tuple[int, ...]
    factor: torch.Tensor
    importance: np.ndarray
    unmixing: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, inputs: torch.Tensor, block_size: int) -> InputMoments:
        """Of ``[tokens, K]``."""
        return cls.of_second(inputs.T @ inputs / len(inputs), block_size)

    @classmethod
    def of_second(cls, second: torch.Tensor, block_size: int) -> InputMoments:
        """Of the moments themselves, ``[K, K]``."""
        second = second.clone()
        diagonal = second.diagonal()
        diagonal.add_(max(float(diagonal.mean()) * DAMPING, 1e-12))
        importance = diagonal.numpy().copy()
        largest_first = np.argsort(-importance, kind="stable")
        blocks = [largest_first[largest_first // block_size == n] for n in range(-(-len(second) // block_size))]
        numbers = sorted(range(len(blocks)), key=lambda number: -importance[blocks[number]].mean())
        blocks = [blocks[number] for number in numbers]
        order = np.concatenate(blocks)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(second[order][:, order]))
        factor = torch.linalg.cholesky(inverse, upper=True)
        unmixing, start = [], 0
        for block in blocks:
            within = factor[start : start + len(block), start : start + len(block)]
            unmixing.append(torch.linalg.solve_triangular(within.T, torch.eye(len(block)), upper=False).numpy())
            start += len(block)
        return cls(tuple(blocks), tuple(numbers), factor, importance[order], tuple(unmixing))


class LayerMoments:
    """The second moments of a layer's inputs; layers that read the same input share them."""

    def __init__(self, precision: DecoderPrecision):
        self._precision = precision
        self._read: torch.Tensor | None = None
        self._result: list[InputMoments] = []

    def of(self, hidden: torch.Tensor) -> list[InputMoments]:
        """Of inputs ``[..., K]``, a group of neighbouring columns each."""
        if hidden is not self._read:
            flat = hidden.reshape(-1, hidden.shape[-1]).float()  # [tokens, K]
            size = block_size_for(flat.shape[1], self._precision.block_size)
            groups = column_groups(flat.shape[1], self._precision)
            self._result = [InputMoments.of(flat[:, columns], size) for columns in groups]
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
            _compensated_rows(rows[:, columns], part, size, precision.bits)
            for columns, part in zip(groups, moments, strict=True)
        ]
        joined = (np.concatenate([getattr(p, f) for p in parts], axis=1) for f in ("blocks", "scales", "zero_points"))
        return RoundedMatrix(*joined, precision.bits, weight.shape[1])

    with ThreadPoolExecutor(default_threads()) as pool:  # rows do not see one another
        return stack_rounded(list(pool.map(of_rows, range(0, len(weight), _ROWS))))


def _compensated_rows(weight: torch.Tensor, moments: InputMoments, size: int, bits: int) -> RoundedMatrix:
    rows, columns = weight.shape
    left = weight.T[np.concatenate(moments.blocks)]  # [K, N], a copy
    numbers = np.zeros((rows, len(moments.blocks), size), np.float32)
    scales, zeros = np.empty((rows, len(moments.blocks)), np.float32), np.empty((rows, len(moments.blocks)), np.float32)
    start = 0
    for block, number, unmixing in zip(moments.blocks, moments.numbers, moments.unmixing):
        stop = start + len(block)
        rounding = _BlockRounding(left[start:stop].numpy(), moments, slice(start, stop), unmixing, bits)
        rounded, errors, scales[:, number], zeros[:, number] = rounding.best()
        numbers[:, number, block - number * size] = rounded.T
        left[stop:] -= moments.factor[start:stop, stop:].T @ torch.from_numpy(errors)
        start = stop
    return pack_numbers(numbers, scales, zeros, bits, columns)


class _BlockRounding:
    """One block of some rows, ``[columns, N]``."""

    def __init__(self, block: np.ndarray, moments: InputMoments, columns: slice, unmixing: np.ndarray, bits: int):
        self.block, self.unmixing, self.bits = block, unmixing, bits
        self.factor = moments.factor[columns, columns].numpy()
        self.importance = moments.importance[columns]

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers without their zero points, errors for later columns to mend (both ``[columns, N]``), scales and zero
        points ``[N]``."""
        numbers, errors, scales, zeros = self._of_best_grid()
        mixed_block = self.unmixing @ self.block
        for fit in range(_FITS):
            mixed = self.unmixing @ numbers
            fitted = fitted_scales(mixed.T, mixed_block.T, scales)
            fitted_errors = mixed_block - mixed * fitted
            better = _squares(fitted_errors) < _squares(errors)
            scales, errors = np.where(better, fitted, scales), np.where(better, fitted_errors, errors)
            if fit + 1 < _FITS:
                again, again_errors = self._rounded(self.block, scales, zeros)
                better = _squares(again_errors) < _squares(errors)
                numbers, errors = np.where(better, again, numbers), np.where(better, again_errors, errors)
        return numbers, errors, scales, zeros

    def _of_best_grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        grids = fitted_grids(self.block.T[:, None], self.bits, self.importance[None])
        scales, zeros = (np.stack(values)[:, :, 0] for values in zip(*grids))  # [grids, N]
        count, rows = scales.shape
        numbers, errors = self._rounded(np.tile(self.block, count), scales.reshape(-1), zeros.reshape(-1))
        chosen = _squares(errors).reshape(count, rows).argmin(0) * rows + np.arange(rows)
        return numbers[:, chosen], errors[:, chosen], scales.reshape(-1)[chosen], zeros.reshape(-1)[chosen]

    def _rounded(self, block: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return round_columns(block, self.factor, scales, zeros, self.bits)


def round_columns(
    block: np.ndarray, factor: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Round the columns of one block, each making good what those before it lost.

    Args:
        block: float32 ``[columns, N]``; only read.
        factor: ``[columns, columns]``, upper.
        scales, zeros: ``[N]``.

    Returns:
        the numbers without their zero points, and each column's error over its diagonal entry; both ``[columns, N]``.
    """
    block, numbers, errors = block.copy(), np.empty_like(block), np.empty_like(block)
    inverse, low = np.float32(1) / scales, -zeros
    high = low + np.float32((1 << bits) - 1)

    def of(start: int, stop: int) -> None:
        if stop - start > _COLUMNS:
            middle = (start + stop) // 2
            of(start, middle)
            block[middle:stop] -= factor[start:middle, middle:stop].T @ errors[start:middle]
            of(middle, stop)
            return
        for column in range(start, stop):
            number, error = numbers[column], errors[column]
            np.rint(np.multiply(block[column], inverse, out=number), out=number)
            np.minimum(np.maximum(number, low, out=number), high, out=number)
            np.subtract(block[column], np.multiply(number, scales, out=error), out=error)
            error *= 1 / factor[column, column]
            for later in range(column + 1, stop):
                block[later] -= factor[column, later] * error

    of(0, len(block))
    return numbers, errors


def _squares(errors: np.ndarray) -> np.ndarray:
    return np.einsum("kn,kn->n", errors, errors)
