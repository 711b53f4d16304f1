"""The written graph's numbers against what they were meant to be, computed another way than they were made.

A scale that is a quarter too wide costs a quarter of the steps: that stays within most budgets, so that no comparison
of features tells it from a hard model. Here the written numbers are read back: the interval that an input's numbers
stand for is the range that was cut for it, and that is no wider than what was seen; a weight's rounding is within half
a step of the FP32 weight, and each of its columns reaches the largest number there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.number_formats import LARGEST, SMALLEST_HALF, SMALLEST_SCALE

from ..errors import CalibrationError
from .placement import Placement

_ROUNDING = 2.0**-10
"""Relative, of a scale: in half precision it is up to 2^-11 off."""

Range = tuple[float, float]


def check_written(written: gs.Graph, fp32: gs.Graph, placement: Placement, seen: Mapping[str, Range]) -> None:
    """Hold a quantised graph to the ranges of ``placement`` and to the weights of ``fp32``.

    Args:
        written: read from its file.
        fp32: the (smoothed) graph that it was made from.
        seen: Linear input → the least and the largest value of it that was observed.

    Raises:
        CalibrationError: a scale, a zero point or a weight is another than it was meant to be, or missing.
    """
    if placement.number_format.activations is not None:
        quantizers = {node.name: node for node in written.nodes if node.op == "QuantizeLinear"}
        sources = [node.inputs[0].name for node in placement.linears(fp32)]
        sources += [tensor.name for node in placement.products(fp32) for tensor in node.inputs]
        for source in dict.fromkeys(sources):
            _check_cut(source, placement.ranges[source], seen[source])
            quantizer = quantizers.get(f"{source}/QuantizeLinear")
            _check_input(source, quantizer, placement)
    matmuls = {node.name: node for node in written.nodes}
    for node in placement.linears(fp32):
        weight = _columns_of(matmuls[node.name])
        if weight is not None:
            largest = LARGEST[placement.number_format.weights]
            _check_weight(node.name, *weight, node.inputs[1].values, largest)


def _check_cut(source: str, cut: Range, seen: Range) -> None:
    low, high = min(seen[0], 0.0), max(seen[1], 0.0)
    if cut[0] < low - _ROUNDING * abs(low) or cut[1] > high + _ROUNDING * high:
        raise _wrong("the range", source, cut, (low, high))


def _check_input(source: str, quantizer: gs.Node | None, placement: Placement) -> None:
    low, high = placement.ranges[source]
    if quantizer is None:
        raise _wrong("the quantisation", source, None, (low, high))
    scale, zero_point = (np.asarray(tensor.values) for tensor in quantizer.inputs[1:3])
    step, smallest = float(scale), _smallest(scale)
    if zero_point.dtype == np.uint8:
        width, moved = 255 * step, 0.5 * step  # the zero point is a whole number: half a step off at most
        stands_for = (-int(zero_point) * step, (255 - int(zero_point)) * step)
        meant, least = (low, high), 255 * smallest
    else:
        largest = LARGEST[placement.number_format.activations]
        width, moved = 2 * largest * step, 0.0
        stands_for = (-largest * step, largest * step)
        meant, least = (-max(-low, high), max(-low, high)), 2 * largest * smallest
        if float(zero_point) != 0:
            raise _wrong("the zero point", source, (float(zero_point),) * 2, (0.0, 0.0))
    wanted = max(meant[1] - meant[0], least)
    if abs(width - wanted) > _ROUNDING * wanted or abs(stands_for[0] - meant[0]) > moved + _ROUNDING * wanted + least:
        raise _wrong("the interval of the numbers", source, stands_for, meant)


def _columns_of(node: gs.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """The whole numbers ``[in, out]`` of a written Linear layer and the scale of each column ``[out]``; None where
    scales are of blocks, or numbers are floats."""
    if node.op == "MatMulIntegerToFloat":
        values, scales = node.inputs[1], node.inputs[3]
    elif node.op == "MatMul" and node.inputs[1].inputs and node.inputs[1].inputs[0].op == "DequantizeLinear":
        values, scales = node.inputs[1].inputs[0].inputs[:2]
    else:
        return None
    of_columns = values.values.dtype == np.int8 and scales.values.ndim == 1
    return (np.asarray(values.values), np.asarray(scales.values)) if of_columns else None


def _smallest(scales: np.ndarray) -> float:
    """What a scale may be at least, by how it is stored."""
    return SMALLEST_HALF if scales.dtype == np.float16 else SMALLEST_SCALE


def _check_weight(name: str, numbers: np.ndarray, stored: np.ndarray, weight: np.ndarray, largest: float) -> None:
    scales = stored.astype(np.float32)
    columns = np.abs(numbers).max(0)  # -128 stays negative, and is as wrong as 126
    unused = (columns != largest) & (scales > _smallest(stored))
    error = np.abs(numbers * scales - weight).max(0)
    steps = error > scales * (0.5 + _ROUNDING * largest)
    if (unused | steps).any():
        column = int(np.flatnonzero(unused | steps)[0])
        most = float(np.abs(weight[:, column]).max())
        stands_for = float(columns[column] * scales[column])
        raise _wrong(f"the weight's column {column}", name, (-stands_for, stands_for), (-most, most))


def _wrong(what: str, name: str, stands_there: Range | None, meant: Range) -> CalibrationError:
    return CalibrationError(
        f"the quantised graph does not hold the numbers that were chosen: {what} of {name}",
        given="none" if stands_there is None else f"{stands_there[0]:.6g} … {stands_there[1]:.6g}",
        allowed=f"{meant[0]:.6g} … {meant[1]:.6g}",
        todo="report this with the checkpoint's config.json; nothing was written",
    )
