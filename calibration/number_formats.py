"""The eight- and four-bit numbers that a graph can be calibrated to, and what they make of a tensor.

The same arithmetic serves the judging (values rounded in FP32, by torch) and the placing (integers and scales written
into the graph), so that what was judged is what is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_HALF = 2.0**-14
"""Half's smallest normal number: a scale below it would itself be rounded coarsely."""

BLOCK = 32
"""Rows of a weight that share a scale in the four-bit format; what llama.cpp and ONNX Runtime's kernels take."""


@dataclass(frozen=True)
class NumberFormat:
    """A number format of activations and of weights.

    Attributes:
        activations: ``int8`` (symmetric), ``uint8`` (with a zero point), ``fp8`` (float8_e4m3fn), or None: left alone.
        weights: ``int8``, ``int7`` (one scale an output channel), ``fp8`` (one scale), ``int4`` (one scale each
            :data:`BLOCK` rows of an output channel).
    """

    name: str
    activations: str | None
    weights: str


INT8 = NumberFormat("int8", "int8", "int8")
U8S8 = NumberFormat("int8", "uint8", "int8")
U8S7 = NumberFormat("int8", "uint8", "int7")
"""For x86 without VNNI: its vpmaddubsw adds two products in 16 bits, which saturate with eight-bit weights."""

FP8 = NumberFormat("fp8", "fp8", "fp8")
W8 = NumberFormat("w8", None, "int8")
W4 = NumberFormat("w4", None, "int4")

_LARGEST = {"int8": 127, "int7": 63, "fp8": 448.0, "int4": 7}


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
        scales: float32: ``[out]`` for int8 and int7, ``[]`` for fp8, ``[in / BLOCK, out]`` for int4.
    """

    kind: str
    values: np.ndarray
    scales: np.ndarray

    def dequantized(self) -> np.ndarray:
        """float32 ``[in, out]``: what a kernel multiplies with."""
        scales = np.repeat(self.scales, BLOCK, 0)[: len(self.values)] if self.kind == "int4" else self.scales
        return self.values.astype(np.float32) * scales


def scaling(kind: str, low: float, high: float, *, half_scales: bool = False) -> Scaling:
    """The scale and zero point that spread ``kind`` over ``[low, high]`` (which holds zero).

    Args:
        half_scales: round the scale to half precision, as a half-precision graph stores it.
    """
    if kind == "uint8":
        scale = _stored((high - low) / 255, half_scales)
        return Scaling(kind, scale, int(np.clip(np.rint(-low / scale), 0, 255)))
    return Scaling(kind, _stored(max(-low, high) / _LARGEST[kind], half_scales))


def quantize_weight(kind: str, weight: np.ndarray, *, half_scales: bool = False) -> QuantizedWeight:
    """Round a matrix ``[in, out]`` to ``kind``; its largest magnitudes are kept."""
    weight = np.asarray(weight, np.float32)
    largest = _LARGEST[kind]
    if kind == "fp8":
        import ml_dtypes

        scale = _stored(np.abs(weight).max(initial=0) / largest, half_scales)
        return QuantizedWeight(
            kind, np.clip(weight / scale, -largest, largest).astype(ml_dtypes.float8_e4m3fn), np.asarray(scale)
        )
    if kind == "int4":
        groups = -(-len(weight) // BLOCK)
        padded = np.zeros((groups * BLOCK, weight.shape[1]), np.float32)
        padded[: len(weight)] = weight
        grouped = padded.reshape(groups, BLOCK, -1)  # [in / BLOCK, BLOCK, out]
        scales = _stored(np.abs(grouped).max(1) / largest, half_scales)  # [in / BLOCK, out]
        values = np.clip(np.rint(grouped / scales[:, None]), -largest, largest).astype(np.int8)
        return QuantizedWeight(kind, values.reshape(padded.shape)[: len(weight)], scales)
    scales = _stored(np.abs(weight).max(0) / largest, half_scales)  # [out]
    return QuantizedWeight(kind, np.clip(np.rint(weight / scales), -largest, largest).astype(np.int8), scales)


def rounded(tensor, how: Scaling):
    """A torch tensor's values after a trip through ``how``: float32, same shape."""
    import torch

    scale = float(how.scale)
    if how.kind == "fp8":
        return (tensor / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
    lowest, highest = (0, 255) if how.kind == "uint8" else (-128, 127)
    return ((tensor / scale).round_().add_(how.zero_point).clamp_(lowest, highest).sub_(how.zero_point)).mul_(scale)


def _stored(scale, half: bool):
    """A scale as the graph holds it: never zero, and representable."""
    scale = np.asarray(scale, np.float32)
    if half:
        return np.maximum(scale, SMALLEST_HALF).astype(np.float16).astype(np.float32)[()]
    return np.maximum(scale, np.finfo(np.float32).tiny * 2)[()]
