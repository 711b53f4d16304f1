"""Weights to the blocks that ONNX Runtime's ``MatMulNBits`` reads, and back.

::

    weight [N, K] (N outputs, K inputs) -> blocks of block_size along K, the last one padded with zeros
    8 bits: uint8 [N, blocks, block_size],       value = (q - zero) * scale, zero 128 where none is stored
    4 bits: uint8 [N, blocks, block_size / 2],   value = (q - zero) * scale, zero 8 where none is stored
    scales: float32 [N * blocks]
    zeros:  uint8 [N, ceil(blocks * bits / 8)]

Of two 4-bit numbers in a byte the even element is in the low nibble.

ONNX Runtime's own quantiser (``MatMulNBitsQuantizer``) takes a whole ONNX model in memory and each scale from the
largest weight alone; this one takes one matrix at a time, in torch's layout, and tries several scales. Zero points are
whole numbers: ONNX Runtime's CPU kernel does not pack weights whose zero points are floats, and is many times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ExportError
from ..number_formats import SMALLEST_SCALE

SHRINK = {4: tuple(np.linspace(0.8, 1.0, 5)), 8: (1.0,)}
"""Scales tried, as shares of the one that holds the block's largest weight: clipping a little lowers the squared error
of 4-bit blocks, and of 8-bit blocks never noticeably."""

RANGES = (0.8, 0.9, 1.0)
"""Shares of a block's range that are tried where the zero point is free."""

_OFF_GRID = 1 / 8
"""Of a step, how far from it a number may lie that was rounded to bfloat16 as its block's largest was: 15 steps times
2⁻⁷. A block of 32 random weights lies so near to a grid once in 10¹⁹."""

_ROWS_BYTES = 1 << 20  # worked on at a time: what the core's cache holds


@dataclass(frozen=True)
class RoundedMatrix:
    """A matrix ``[N, K]`` as a ``MatMulNBits`` reads it.

    Attributes:
        blocks: uint8 ``[N, blocks, block_size * bits / 8]``.
        scales: float32 ``[N, blocks]``.
        zero_points: uint8 ``[N, blocks]``, not packed; None for the middle of the range.
        columns: ``K``.
    """

    blocks: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None
    bits: int
    columns: int

    @property
    def block_size(self) -> int:
        return self.blocks.shape[2] * 8 // self.bits

    @property
    def nbytes(self) -> int:
        """As it is stored."""
        zeros = 0 if self.zero_points is None else len(self.blocks) * -(-self.blocks.shape[1] * self.bits // 8)
        return self.blocks.nbytes + self.scales.nbytes + zeros

    def packed_zero_points(self) -> np.ndarray:
        """uint8 ``[N, ceil(blocks * bits / 8)]``."""
        return (
            self.zero_points
            if self.bits == 8
            else _nibbles(np.pad(self.zero_points, ((0, 0), (0, self.blocks.shape[1] % 2))))
        )

    def dequantized(self, rows: slice = slice(None)) -> np.ndarray:
        """What some rows stand for: float32 ``[rows, K]``."""
        zeros = None if self.zero_points is None else self.zero_points[rows]
        return dequantize_blocks(self.blocks[rows], self.scales[rows], self.bits, self.columns, zeros)

    def rows(self, rows: slice) -> RoundedMatrix:
        """Some of its rows."""
        zeros = None if self.zero_points is None else self.zero_points[rows]
        return RoundedMatrix(self.blocks[rows], self.scales[rows], zeros, self.bits, self.columns)


def quantize_blocks(
    weight: np.ndarray, bits: int, block_size: int, *, search: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a matrix ``[N, K]`` of any float dtype.

    Args:
        search: take the scale with the least squared error among several, with the largest weight on the longer side
            of the range. Without, the range is symmetric and holds the largest weight, as
            :func:`laco_export.number_formats.quantize_weight` rounds: kept to measure what the search gains
            (benchmarks/calibration_packing.py).

    Returns:
        blocks, uint8 ``[N, blocks, block_size * bits / 8]``, and scales, float32 ``[N * blocks]``.

    Raises:
        ExportError: a weight is inf or NaN.
    """
    rows, columns = weight.shape
    count = -(-columns // block_size)
    blocks = np.empty((rows, count, block_size * bits // 8), np.uint8)
    scales = np.empty((rows, count), np.float32)
    step = max(1, _ROWS_BYTES // (4 * count * block_size))
    for start in range(0, rows, step):
        part = np.zeros((min(step, rows - start), count * block_size), np.float32)
        part[:, :columns] = weight[start : start + step]
        if not np.isfinite(part).all():
            raise ExportError(
                "there are weights that are inf or NaN, which have no rounding",
                given=f"{rows} x {columns} weights, in rows {start} to {start + len(part) - 1}",
                todo="train or download the checkpoint again",
            )
        values, scale = (_searched if search else _symmetric)(part.reshape(len(part), count, block_size), bits)
        blocks[start : start + step] = values if bits == 8 else _nibbles(values)
        scales[start : start + step] = scale
    return blocks, scales.reshape(-1)


def dequantize_blocks(
    blocks: np.ndarray, scales: np.ndarray, bits: int, columns: int, zero_points: np.ndarray | None = None
) -> np.ndarray:
    """The matrix that a quantised one stands for: float32 ``[N, columns]``.

    Args:
        zero_points: ``[N, blocks]``; None for the middle of the range.
    """
    if bits == 4:
        blocks = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:2], -1)
    values = blocks.astype(np.float32)
    values -= np.float32(1 << bits - 1) if zero_points is None else zero_points[..., None].astype(np.float32)
    values *= scales.reshape(*blocks.shape[:2], 1)
    return values.reshape(len(blocks), -1)[:, :columns]


def unpack_zero_points(packed: np.ndarray, bits: int, blocks: int) -> np.ndarray:
    """``[N, blocks]`` of what :meth:`RoundedMatrix.packed_zero_points` gave."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :blocks]


def grid_of_blocks(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The scale and whole zero point of each block that keep its weights best, among :func:`fitted_grids`.

    Args:
        weights: float32 ``[N, blocks, block_size]``.

    Returns:
        scales and zero points, float32 ``[N, blocks]``.
    """
    best_error = np.full(weights.shape[:2], np.inf, np.float32)
    scales, zeros = np.ones_like(best_error), np.zeros_like(best_error)
    for scale, zero in fitted_grids(weights, bits):
        difference = centred_numbers(weights, scale, zero, bits) * scale[..., None]
        difference -= weights
        error = np.einsum("nbk,nbk->nb", difference, difference)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return scales, zeros


def own_grid(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The scale and whole zero point of each block, where all weights lie on such grids already.

    So they do where a matrix was dequantised from numbers of as many bits, as AWQ and GPTQ store them, in groups of one
    block or of several. Rounded to another grid they would lose twice.

    Args:
        weights: float32 ``[N, blocks, block_size]``.

    Returns:
        scales and zero points, float32 ``[N, blocks]``; None where a block lies on no grid.
    """
    steps = (1 << bits) - 1
    largest = np.abs(weights).max(-1)
    scales, zeros = np.ones_like(largest), np.zeros_like(largest)
    least = np.where(largest > 0, np.float32(_OFF_GRID), 0)  # of the grids so far, how far off the worst weight is
    for count in range(1, steps + 1):  # steps between zero and the largest weight
        scale = np.where(largest > 0, largest / count, 1)
        numbers = weights / scale[..., None]
        whole = np.rint(numbers)
        low, high = np.minimum(whole.min(-1), 0), np.maximum(whole.max(-1), 0)
        off = np.abs(np.subtract(numbers, whole, out=numbers), out=numbers).max(-1)
        better = (off < least) & (high - low <= steps)
        scales = np.where(better, fitted_scales(whole, weights, scale), scales)
        zeros, least = np.where(better, -low, zeros), np.where(better, off, least)
    return (scales, zeros) if (least < _OFF_GRID).all() else None


def fitted_grids(
    weights: np.ndarray, bits: int, importance: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scales and whole zero points to try: of each of :data:`RANGES`, the scale fitted to the numbers that it gives.

    Args:
        weights: float32 ``[N, blocks, block_size]``.
        importance: of each weight's squared error, ``[blocks, block_size]``; None for equal ones.

    Yields:
        scales and zero points, float32 ``[N, blocks]``.
    """
    largest = np.float32((1 << bits) - 1)
    low, high = np.minimum(weights.min(-1), 0), np.maximum(weights.max(-1), 0)
    for share in RANGES:
        scale = np.maximum((high - low) * np.float32(share) / largest, np.finfo(np.float32).tiny * 4)
        zero = np.clip(np.rint(-low * np.float32(share) / scale), 0, largest)
        yield fitted_scales(centred_numbers(weights, scale, zero, bits), weights, scale, importance), zero


def fitted_scales(
    numbers: np.ndarray, weights: np.ndarray, scales: np.ndarray, importance: np.ndarray | None = None
) -> np.ndarray:
    """The scales ``[…]`` by which numbers ``[…, K]`` come closest to weights; ``scales`` where none does.

    Args:
        importance: of each squared error, as far as it broadcasts to ``[…, K]``; None for equal ones.
    """
    counted = numbers if importance is None else numbers * importance
    products, squares = (np.einsum("...k,...k->...", counted, other) for other in (weights, numbers))
    fitted = np.divide(products, squares, out=scales.astype(np.float32), where=squares > 0)
    return np.where(fitted > 0, fitted, scales)


def centred_numbers(weights: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int) -> np.ndarray:
    """The whole numbers, zero point taken off, of blocks ``[N, blocks, block_size]`` on their grids."""
    numbers = weights / scales[..., None]
    np.rint(numbers, out=numbers)
    low = -zeros[..., None]
    return np.clip(numbers, low, low + np.float32((1 << bits) - 1), out=numbers)


def pack_numbers(numbers: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int, columns: int) -> RoundedMatrix:
    """A matrix of :func:`centred_numbers` ``[N, blocks, block_size]`` and their grids."""
    values = (numbers + zeros[..., None]).astype(np.uint8)
    return RoundedMatrix(
        values if bits == 8 else _nibbles(values), scales.astype(np.float32), zeros.astype(np.uint8), bits, columns
    )


def stack_rounded(matrices: list[RoundedMatrix]) -> RoundedMatrix:
    """Matrices of the same inputs and one width, their rows one below the other."""
    if len(matrices) == 1:
        return matrices[0]
    first = matrices[0]
    zeros = None if first.zero_points is None else np.concatenate([matrix.zero_points for matrix in matrices])
    blocks, scales = (np.concatenate([getattr(m, field) for m in matrices]) for field in ("blocks", "scales"))
    return RoundedMatrix(blocks, scales, zeros, first.bits, first.columns)


def _nibbles(values: np.ndarray) -> np.ndarray:
    """Two numbers of 4 bits in a byte, along the last axis."""
    return values[..., 0::2] | values[..., 1::2] << 4


def _searched(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks ``[N, blocks, block_size]`` to unsigned integers of the same shape and scales ``[N, blocks]``."""
    zero = 1 << bits - 1  # the range is -zero … zero - 1: the largest weight takes its longer side
    low, high = weights.min(-1), weights.max(-1)
    largest = np.where(-low > high, low, high)  # [N, blocks], with its sign
    best_error = np.full(largest.shape, np.inf, np.float32)
    best_scale = np.zeros_like(largest)
    for share in SHRINK[bits]:
        scale = (largest * np.float32(-share / zero)).astype(np.float32)
        error = _squared_error(weights, scale, zero) if len(SHRINK[bits]) > 1 else np.zeros_like(largest)
        better = error < best_error
        best_error, best_scale = np.where(better, error, best_error), np.where(better, scale, best_scale)
    return (_integers(weights, best_scale, zero) + zero).astype(np.uint8), best_scale


def _symmetric(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_searched`, in the range -(zero - 1) … zero - 1 and with the scale of the largest magnitude."""
    zero = 1 << bits - 1
    scale = np.maximum(np.abs(weights).max(-1) / (zero - 1), SMALLEST_SCALE).astype(np.float32)  # [N, blocks]
    integers = np.clip(np.rint(weights / scale[..., None]), 1 - zero, zero - 1)
    return (integers + zero).astype(np.uint8), scale


def _integers(weights: np.ndarray, scale: np.ndarray, zero: int) -> np.ndarray:
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = weights * inverse[..., None]
    return np.clip(np.rint(scaled, out=scaled), -zero, zero - 1, out=scaled)


def _squared_error(weights: np.ndarray, scale: np.ndarray, zero: int) -> np.ndarray:
    difference = _integers(weights, scale, zero)
    difference *= scale[..., None]
    difference -= weights
    return np.einsum("nbk,nbk->nb", difference, difference)
