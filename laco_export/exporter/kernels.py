"""ONNX operators as torch kernels, in the dtypes that a graph states.

Every floating-point result is rounded to its inputs' dtype (FP32, FP16 or bfloat16), as on a device; sums inside one
operator (MatMul, Conv, ReduceMean, a fused norm) accumulate in FP32, as tensor cores and ONNX's ``stash_type`` have it.
Torch's own kernels for 16 bits do that, but its 16-bit MatMul is 20 times slower than FP32's on a CPU without half
arithmetic, so that products are computed in FP32 from the exact values and rounded once, which is what it does.
QuantizeLinear and DequantizeLinear go to INT8 or FP8 and back: a product between them is computed from the dequantised
values. The operators are those that vision towers trace to; another one is one line in :data:`KERNELS`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Callable[[dict, list], "Tensor | tuple[Tensor, ...]"]


def _accumulated(operation: Callable, *inputs: Tensor | None) -> Tensor:
    """``operation`` on the inputs' exact values in FP32, rounded once to their dtype."""
    dtype = inputs[0].dtype
    return operation(*(None if tensor is None else tensor.float() for tensor in inputs)).to(dtype)


def _matmul(attrs: dict, inputs: list) -> Tensor:
    return _accumulated(_product, *inputs)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in FP32, by oneDNN where ``right`` is a weight.

    Torch itself multiplies FP32 with MKL, which takes twice the time on AMD's cores (185 against 400 GFLOP/s on two).
    """
    if right.ndim == 2 and left.ndim > 1 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return left @ right


def _conv(attrs: dict, inputs: list) -> Tensor:
    dims = inputs[0].ndim - 2
    pads = attrs.get("pads", [0] * 2 * dims)
    if attrs.get("auto_pad", "NOTSET") != "NOTSET" or pads[:dims] != pads[dims:]:
        raise NotImplementedError("Conv with automatic or one-sided padding")
    bias = inputs[2] if len(inputs) > 2 else None
    convolve = {1: F.conv1d, 2: F.conv2d}[dims]
    strides, dilations = attrs.get("strides", [1] * dims), attrs.get("dilations", [1] * dims)
    operation = lambda tensor, weight, bias: convolve(
        tensor, weight, bias, strides, pads[:dims], dilations, attrs.get("group", 1)
    )
    return _accumulated(operation, inputs[0], inputs[1], bias)


def _gemm(attrs: dict, inputs: list) -> Tensor:
    left = inputs[0].T if attrs.get("transA") else inputs[0]
    right = inputs[1].T if attrs.get("transB") else inputs[1]
    product = attrs.get("alpha", 1.0) * _accumulated(_product, left, right)
    return product if len(inputs) < 3 else product + attrs.get("beta", 1.0) * inputs[2]


def _layer_norm(attrs: dict, inputs: list) -> Tensor:
    axis = attrs.get("axis", -1) % inputs[0].ndim
    bias = inputs[2] if len(inputs) > 2 else None
    return F.layer_norm(inputs[0], inputs[0].shape[axis:], inputs[1], bias, attrs.get("epsilon", 1e-5))


def _rms_norm(attrs: dict, inputs: list) -> Tensor:
    """ONNX's RMSNormalization (opset 23): its first stage in ``stash_type`` FP32, the product with the scale in T."""
    axes = tuple(range(attrs.get("axis", -1) % inputs[0].ndim, inputs[0].ndim))
    wide = inputs[0].float()
    normalised = wide * (wide.square().mean(axes, keepdim=True) + attrs.get("epsilon", 1e-5)).rsqrt()
    return normalised.to(inputs[0].dtype) * inputs[1]


def _attention(attrs: dict, inputs: list) -> Tensor:
    """ONNX's Attention (opset 23) on ``[B, heads, N, D]`` or ``[B, N, heads·D]``, without mask, cache or soft cap.

    Scores and weights are rounded to the inputs' dtype, as the operator's definition has it: a fused kernel that keeps
    them in FP32 is no worse.
    """
    extras = [tensor for tensor in inputs[3:] if tensor is not None]
    if extras or attrs.get("is_causal") or attrs.get("softcap"):
        raise NotImplementedError("Attention with a mask, a cache or a soft cap")
    query, key, value = inputs[:3]
    packed = query.ndim == 3
    if packed:
        counts = (attrs["q_num_heads"], attrs["kv_num_heads"], attrs["kv_num_heads"])
        query, key, value = (
            tensor.unflatten(-1, (count, -1)).transpose(1, 2)  # [B, N, heads·D] -> [B, heads, N, D]
            for tensor, count in zip((query, key, value), counts)
        )
    # The definition multiplies Q and K by the root of the scale each, before their product.
    root = attrs.get("scale", query.shape[-1] ** -0.5) ** 0.5
    scores = _accumulated(torch.matmul, query * root, (key * root).transpose(-1, -2))
    mixed = _accumulated(torch.matmul, scores.softmax(-1), value)  # [B, heads, N, D]
    return mixed.transpose(1, 2).flatten(-2) if packed else mixed


def _reduce(operation: Callable) -> Kernel:
    def reduce(attrs: dict, inputs: list) -> Tensor:
        axes = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else list(range(inputs[0].ndim))
        return operation(inputs[0], dim=axes, keepdim=bool(attrs.get("keepdims", 1)))

    return reduce


def _slice(attrs: dict, inputs: list) -> Tensor:
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    index = [slice(None)] * inputs[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        index[axis] = slice(start, end, step)
    return inputs[0][tuple(index)]


def _pad(attrs: dict, inputs: list) -> Tensor:
    tensor, pads = inputs[0], inputs[1].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(tensor.ndim)
    mode, ends = attrs.get("mode", "constant"), len(pads) // 2
    for position, axis in enumerate(axes):
        before, after = pads[position], pads[position + ends]
        if mode == "edge":  # by index: F.pad replicates only some layouts
            index = torch.arange(-before, tensor.shape[axis] + after).clamp(0, tensor.shape[axis] - 1)
            tensor = tensor.index_select(axis, index)
        elif mode == "constant":
            value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
            widths = [0, 0] * (tensor.ndim - 1 - axis % tensor.ndim) + [before, after]
            tensor = F.pad(tensor, widths, value=value)
        else:
            raise NotImplementedError(f"Pad in mode {mode}")
    return tensor


def _reshape(attrs: dict, inputs: list) -> Tensor:
    shape = [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(inputs[1].tolist())]
    return inputs[0].reshape(shape)


def _split(attrs: dict, inputs: list) -> tuple[Tensor, ...]:
    axis = attrs.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return inputs[0].split(inputs[1].tolist(), axis)
    return inputs[0].split(-(-inputs[0].shape[axis] // attrs["num_outputs"]), axis)


def _cast(attrs: dict, inputs: list) -> Tensor:
    return inputs[0].to(TORCH_DTYPES[int(attrs["to"])])


def _quantize_linear(attrs: dict, inputs: list) -> Tensor:
    """To int8, uint8 or float8_e4m3fn with one scale a tensor; the division in FP32, half to even, saturated."""
    scale, zero = inputs[1].float(), inputs[2]
    if zero.dtype == torch.float8_e4m3fn:
        return (inputs[0].float() / scale).clamp(-448, 448).to(zero.dtype)
    limits = torch.iinfo(zero.dtype)
    return (inputs[0].float() / scale).round().add(zero).clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize_linear(attrs: dict, inputs: list) -> Tensor:
    """One scale a tensor, one an index of ``axis``, or one each ``block_size`` indices of it; in the scale's dtype."""
    numbers, scale = inputs[0].float(), inputs[1]
    if len(inputs) > 2 and inputs[2] is not None:
        numbers = numbers - inputs[2].float()
    axis = attrs.get("axis", 1) % max(1, numbers.ndim)
    if block := attrs.get("block_size"):
        wide = scale.float().repeat_interleave(block, axis).narrow(axis, 0, numbers.shape[axis])
    elif scale.ndim:
        wide = scale.float().reshape([-1 if i == axis else 1 for i in range(numbers.ndim)])
    else:
        wide = scale.float()
    return (numbers * wide).to(scale.dtype)


def _gather(attrs: dict, inputs: list) -> Tensor:
    axis, indices = attrs.get("axis", 0) % inputs[0].ndim, inputs[1]
    picked = inputs[0].index_select(axis, indices.reshape(-1) % inputs[0].shape[axis])
    return picked.reshape(*inputs[0].shape[:axis], *indices.shape, *inputs[0].shape[axis + 1 :])


def _unsqueeze(attrs: dict, inputs: list) -> Tensor:
    tensor, axes = inputs[0], inputs[1].tolist()
    for axis in sorted(axis % (inputs[0].ndim + len(axes)) for axis in axes):
        tensor = tensor.unsqueeze(axis)
    return tensor


TORCH_DTYPES = {1: torch.float32, 10: torch.float16, 16: torch.bfloat16, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""torch's dtype by ONNX's ``TensorProto.DataType``."""

KERNELS: dict[str, Kernel] = {
    "Add": lambda attrs, inputs: inputs[0] + inputs[1],
    "Attention": _attention,
    "Cast": _cast,
    "Concat": lambda attrs, inputs: torch.cat(inputs, attrs["axis"]),
    "Conv": _conv,
    "DequantizeLinear": _dequantize_linear,
    "Div": lambda attrs, inputs: inputs[0] / inputs[1],
    "Erf": lambda attrs, inputs: torch.erf(inputs[0]),
    "Expand": lambda attrs, inputs: inputs[0] * torch.ones(inputs[1].tolist(), dtype=inputs[0].dtype),
    "Gather": _gather,
    "Gelu": lambda attrs, inputs: F.gelu(inputs[0], approximate=attrs.get("approximate", "none")),
    "Gemm": _gemm,
    "Identity": lambda attrs, inputs: inputs[0],
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Mul": lambda attrs, inputs: inputs[0] * inputs[1],
    "Neg": lambda attrs, inputs: -inputs[0],
    "Pad": _pad,
    "Pow": lambda attrs, inputs: inputs[0].pow(inputs[1]),
    "QuantizeLinear": _quantize_linear,
    "Reciprocal": lambda attrs, inputs: inputs[0].reciprocal(),
    "RMSNormalization": _rms_norm,
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda attrs, inputs: inputs[0].relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda attrs, inputs: inputs[0].sigmoid(),
    "Slice": _slice,
    "Softmax": lambda attrs, inputs: inputs[0].softmax(attrs.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda attrs, inputs: inputs[0].sqrt(),
    "Squeeze": lambda attrs, inputs: inputs[0].squeeze(tuple(inputs[1].tolist())),
    "Sub": lambda attrs, inputs: inputs[0] - inputs[1],
    "Tanh": lambda attrs, inputs: inputs[0].tanh(),
    "Transpose": lambda attrs, inputs: inputs[0].permute(attrs["perm"]),
    "Unsqueeze": _unsqueeze,
}
