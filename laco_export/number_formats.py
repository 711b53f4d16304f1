"""The eight- and four-bit numbers that a graph can be calibrated to, and what they make of a tensor.

The one home of their limits, of how many rows share a scale, and of the smallest scale: calibration judges and places
by them (what was judged is what is shipped), and ``laco-train --fake-quant`` trains under them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_HALF = 2.0**-14
"""Half's smallest normal number: a scale below it would itself be rounded coarsely."""

ROWS_PER_SCALE = 32
"""Rows of a weight that share a scale in the four-bit format; what llama.cpp and ONNX Runtime's kernels take."""


@dataclass(frozen=True)
class NumberFormat:
    """A number format of activations and of weights.

    Attributes:
        activations: ``int8`` (symmetric), ``uint8`` (with a zero point), ``fp8`` (float8_e4m3fn), or None: left alone.
        weights: ``int8`` and ``int7`` (one scale an output channel), ``fp8`` (one scale), ``int4`` (one scale each
            :data:`ROWS_PER_SCALE` rows of an output channel).
    """

    name: str
    activations: str | None
    weights: str


INT8 = NumberFormat("int8", "int8", "int8")
U8S8 = NumberFormat("int8", "uint8", "int8")
U8S7 = NumberFormat("int8", "uint8", "int7")
FP8 = NumberFormat("fp8", "fp8", "fp8")
W8 = NumberFormat("w8", None, "int8")
W4 = NumberFormat("w4", None, "int4")

LARGEST = {"int8": 127, "int7": 63, "fp8": 448.0, "int4": 7}
"""Magnitude of the largest number of a symmetric kind. ``int7`` is for x86 without VNNI, which adds two products of
uint8 and int8 in 16 bits: 2 · 255 · 63 fits there, 2 · 255 · 127 does not."""

ACTIVATION_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
"""Lowest and highest number of an activation's kind."""

SMALLEST_SCALE = 2 * float(np.finfo(np.float32).tiny)
"""Of a tensor of zeros: its reciprocal is still finite."""


@dataclass(frozen=True)
class Scaling:
    """How a tensor's values become numbers: ``value = (number - zero_point) · scale``."""

    kind: str
    scale: np.float32
    zero_point: int = 0


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix ``[in, out]``.

    Attributes:
        values: ``[in, out]``: int8 for int8 and int4, ml_dtypes' float8_e4m3fn for fp8.
        scales: float32: ``[out]`` for int8, ``[]`` for fp8, ``[in / ROWS_PER_SCALE, out]`` for int4.
    """

    kind: str
    values: np.ndarray
    scales: np.ndarray

    def dequantized(self) -> np.ndarray:
        """float32 ``[in, out]``: what a kernel multiplies with."""
        scales = np.repeat(self.scales, ROWS_PER_SCALE, 0)[: len(self.values)] if self.kind == "int4" else self.scales
        return self.values.astype(np.float32) * scales


def scaling(kind: str, low: float, high: float, *, half_scales: bool = False) -> Scaling:
    """The scale and zero point that spread ``kind`` over ``[low, high]`` (which holds zero).

    Args:
        half_scales: round the scale to half precision, as a half-precision graph stores it.
    """
    if kind == "uint8":
        scale = _stored((high - low) / 255, half_scales)
        return Scaling(kind, scale, int(np.clip(np.rint(-low / scale), 0, 255)))
    return Scaling(kind, _stored(max(-low, high) / LARGEST[kind], half_scales))


def quantize_weight(kind: str, weight: np.ndarray, *, half_scales: bool = False) -> QuantizedWeight:
    """Round a matrix ``[in, out]`` to ``kind``; its largest magnitudes are kept."""
    weight = np.asarray(weight, np.float32)
    largest = LARGEST[kind]
    if kind == "fp8":
        import ml_dtypes

        scale = _stored(np.abs(weight).max(initial=0) / largest, half_scales)
        return QuantizedWeight(
            kind, np.clip(weight / scale, -largest, largest).astype(ml_dtypes.float8_e4m3fn), np.asarray(scale)
        )
    if kind == "int4":
        groups = -(-len(weight) // ROWS_PER_SCALE)
        padded = np.zeros((groups * ROWS_PER_SCALE, weight.shape[1]), np.float32)
        padded[: len(weight)] = weight
        grouped = padded.reshape(groups, ROWS_PER_SCALE, -1)  # [in / ROWS_PER_SCALE, ROWS_PER_SCALE, out]
        scales = _stored(np.abs(grouped).max(1) / largest, half_scales)  # [in / ROWS_PER_SCALE, out]
        values = np.clip(np.rint(grouped / scales[:, None]), -largest, largest).astype(np.int8)
        return QuantizedWeight(kind, values.reshape(padded.shape)[: len(weight)], scales)
    scales = _stored(np.abs(weight).max(0) / largest, half_scales)  # [out]
    return QuantizedWeight(kind, np.clip(np.rint(weight / scales), -largest, largest).astype(np.int8), scales)


def _stored(scale, half: bool):
    """A scale as the graph holds it: never zero, and representable."""
    scale = np.asarray(scale, np.float32)
    if half:
        return np.maximum(scale, SMALLEST_HALF).astype(np.float16).astype(np.float32)[()]
    return np.maximum(scale, SMALLEST_SCALE)[()]
