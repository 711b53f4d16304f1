"""Weights to the blocks that ONNX Runtime's ``MatMulNBits`` reads, and back.

::

    weight [N, K] (N outputs, K inputs) -> blocks of block_size along K, the last one padded with zeros
    8 bits: uint8 [N, blocks, block_size],       value = (q - 128) * scale
    4 bits: uint8 [N, blocks, block_size / 2],   value = (q - 8) * scale, the even element in the low nibble
    scales: float32 [N * blocks]

ONNX Runtime's own quantiser (``MatMulNBitsQuantizer``) takes a whole ONNX model in memory and each scale from the
largest weight alone; this one takes one matrix at a time, in torch's layout, and tries several scales.
"""

from __future__ import annotations

import numpy as np

from ..errors import ExportError
from ..number_formats import SMALLEST_SCALE

SHRINK = {4: tuple(np.linspace(0.8, 1.0, 5)), 8: (1.0,)}
"""Scales tried, as shares of the one that holds the block's largest weight: clipping a little lowers the squared error
of 4-bit blocks, and of 8-bit blocks never noticeably."""

_ROWS_BYTES = 1 << 20  # worked on at a time: what the core's cache holds


def quantize_blocks(
    weight: np.ndarray, bits: int, block_size: int, *, search: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a matrix ``[N, K]`` of any float dtype.

    Args:
        search: take the scale with the least squared error among several, with the largest weight on the longer side
            of the range, as a language model wants it. Without, the range is symmetric and holds the largest weight:
            rounded so, a vision tower's features keep their norm better (docs/calibration.md), and
            :func:`laco_export.number_formats.quantize_weight` rounds the same.

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
        blocks[start : start + step] = values if bits == 8 else values[..., 0::2] | values[..., 1::2] << 4
        scales[start : start + step] = scale
    return blocks, scales.reshape(-1)


def dequantize_blocks(blocks: np.ndarray, scales: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """The matrix that a quantised one stands for: float32 ``[N, columns]``."""
    if bits == 4:
        blocks = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:2], -1)
    values = (blocks.astype(np.float32) - (1 << bits - 1)) * scales.reshape(*blocks.shape[:2], 1)
    return values.reshape(len(blocks), -1)[:, :columns]


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
