"""Training under the numbers that a calibrated bundle computes in (``laco-train --fake-quant BUNDLE``).

Each Linear layer that the bundle computes in few bits rounds its input and its weight as the bundle's graph does, and
the gradient passes straight through the rounding (Bengio et al. 2013; zero where the input is clipped)::

    x / s ─▶ Q(scale, zero point: the bundle's) ─┐
                                                 ├─▶ product (+ bias)
    W · s ─▶ Q(one scale an output channel) ─────┘     s: the bundle's smoothing, 1 where there is none

The input's scales stay as they were chosen; a weight's follow the weight. Nothing of this is stored in a checkpoint:
what comes out is an ordinary one, to be exported and calibrated again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.number_formats import ACTIVATION_LIMITS, LARGEST, ROWS_PER_SCALE, SMALLEST_HALF, SMALLEST_SCALE


@dataclass(frozen=True)
class Numbers:
    """How one Linear layer's tensors become numbers.

    Attributes:
        inputs: ``int8``, ``uint8``, ``fp8``, or None where only the weight is rounded.
        weights: ``int8``, ``int7``, ``int4`` or ``fp8``.
        half_scales: weight scales are rounded to half, as a half-precision graph stores them.
    """

    inputs: str | None
    weights: str
    half_scales: bool
    scale: float = 1.0
    zero_point: int = 0


_RECORDED = ("linears", "activations", "weights", "half_scales", "statistics")
"""What is read of the manifest's ``vision.calibration``."""


class FakeQuantizedLinear(nn.Linear):
    """An ``nn.Linear`` in all but its product. Existing layers become one by :func:`attach`; parameters keep their
    names."""

    numbers: Numbers
    smoothing: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[…, in]`` -> ``[…, out]``"""
        rounded, weight = x.float(), self.weight.float()
        if self.smoothing is not None:
            rounded, weight = rounded / self.smoothing, weight * self.smoothing
        rounded = _rounded_input(rounded, self.numbers)
        product = F.linear(rounded, _rounded_weight(weight, self.numbers))
        product = product if self.bias is None else product + self.bias
        return product.to(x.dtype)


def attach(model: nn.Module, bundle: Bundle) -> int:
    """Let the Linear layers of ``model`` that ``bundle`` has quantised compute with its numbers.

    Args:
        model: the LaCo model that the bundle was exported from, or a further trained one.

    Returns:
        how many layers.

    Raises:
        UsageError: the bundle is not calibrated, or of another model.
    """
    record = bundle.manifest.vision.calibration
    if record is None:
        raise UsageError(
            f"bundle '{bundle.path}' is not calibrated: it has no scales to train with",
            todo="make one with laco-calibrate; --all-int8 gives it out though it misses the budget",
        )
    if missing := [name for name in _RECORDED if name not in record]:
        raise UsageError(
            f"bundle '{bundle.path}' was calibrated by an earlier version: its record lacks {', '.join(missing)}",
            todo="calibrate it again",
        )
    modules, smoothing = dict(model.named_modules()), _smoothing_of(bundle, record)
    for entry in record["linears"]:
        module, name = modules.get(entry["module"]), entry["module"]
        scales = smoothing.get(entry["input"])
        if type(module) is not nn.Linear or (scales is not None and len(scales) != module.in_features):
            raise UsageError(
                f"bundle '{bundle.path}' is of another model", given=f"it has a Linear layer {name} that this one lacks"
            )
        module.__class__ = FakeQuantizedLinear
        module.numbers = Numbers(
            record["activations"],
            record["weights"],
            record["half_scales"],
            entry.get("scale", 1.0),
            entry.get("zero_point", 0),
        )
        module.register_buffer("smoothing", None, persistent=False)
        if scales is not None:
            scales = _in_the_models_order(scales, name, bundle)
            module.smoothing = torch.from_numpy(scales).to(module.weight.device)
    return len(record["linears"])


def _smoothing_of(bundle: Bundle, record: dict) -> dict[str, np.ndarray]:
    """A Linear's input in the graph → its smoothing scales, float32 ``[in]``."""
    if record["statistics"] is None:
        return {}
    scales = json.loads(bundle.read(record["statistics"]))["smoothing_scales"]
    return {name: np.asarray(values, np.float32) for name, values in scales.items()}


def _in_the_models_order(scales: np.ndarray, module: str, bundle: Bundle) -> np.ndarray:
    """The graph gathers a merge's windows position by position, the model channel by channel."""
    from laco_export.exporter.rewrites.merge_windows import channel_of_position

    rewrites = bundle.manifest.vision.rewrites
    rearranged = any(rewrite["name"] == "merge_windows" and rewrite["fired"] for rewrite in rewrites)
    if not (rearranged and module.startswith("vision_model.compressors.") and module.endswith(".mlp.linear_1")):
        return scales
    width = bundle.manifest.encoder["hidden_size"]
    ordered = np.empty_like(scales)
    ordered[channel_of_position(width, ratio=isqrt(len(scales) // width))] = scales
    return ordered


def _rounded_input(x: Tensor, numbers: Numbers) -> Tensor:
    if numbers.inputs is None:
        return x
    if numbers.inputs == "fp8":
        return _through_fp8(x, x.new_tensor(numbers.scale))
    return torch.fake_quantize_per_tensor_affine(
        x, numbers.scale, numbers.zero_point, *ACTIVATION_LIMITS[numbers.inputs]
    )


def _rounded_weight(weight: Tensor, numbers: Numbers) -> Tensor:
    """``[out, in]``, rounded with scales from its own magnitudes."""
    rows, columns = weight.shape
    largest = LARGEST[numbers.weights]
    if numbers.weights == "fp8":
        weight = weight.reshape(1, -1)  # [1, out · in]: one scale for all
    elif numbers.weights == "int4":
        weight = F.pad(weight, (0, -columns % ROWS_PER_SCALE)).reshape(-1, ROWS_PER_SCALE)  # [out · groups, 32]
    scales = _stored(weight.detach().abs().amax(1) / largest, half=numbers.half_scales)  # one for each row
    if numbers.weights == "fp8":
        return _through_fp8(weight, scales).reshape(rows, columns)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -largest, largest)
    return rounded.reshape(rows, -1)[:, :columns]


def _through_fp8(tensor: Tensor, scale: Tensor) -> Tensor:
    largest = LARGEST["fp8"]
    clipped = (tensor / scale).clamp(-largest, largest)
    rounded = clipped.to(torch.float8_e4m3fn).to(tensor.dtype)
    return (clipped + (rounded - clipped).detach()) * scale


def _stored(scale: Tensor, *, half: bool) -> Tensor:
    """A scale as the graph holds it: what ``laco_export.number_formats`` does to NumPy's, for tensors on any device."""
    return scale.clamp(min=SMALLEST_HALF).half().float() if half else scale.clamp(min=SMALLEST_SCALE)
