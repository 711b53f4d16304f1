"""Which ONNX operators TensorRT's parser reads, by version: the one list that the gate holds graphs to.

Source: ``docs/operators.md`` of onnx-tensorrt for 10.15 (all that it marks as supported), without what ``Changelog.md``
says was added after 10.3 and without the operators that are newer than opset 20. Restrictions that concern a static
graph's own operators (constant axes, no dynamic shape, 2-D or 3-D pooling) hold by the way it is made; quantised graphs
have gates of their own.
"""

from __future__ import annotations

_READ_BY_10_3 = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu
    Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div
    Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
    HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul
    Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RNN RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
    Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
TENSORRT_10_3 = frozenset(_READ_BY_10_3.split())

TENSORRT_10_14 = TENSORRT_10_3 | {
    "Attention",
    "BlackmanWindow",
    "HammingWindow",
    "HannWindow",
    "RMSNormalization",
    "STFT",
}
"""Attention with queries, keys and values of four dimensions ``[B, heads, N, d]`` only."""

NEVER_STATIC = frozenset(
    (
        "Shape",
        "Size",
        "If",
        "Loop",
        "Scan",
        "NonZero",
        "Range",
        "ConstantOfShape",
        "Expand",
        "Where",
        "Unique",
        "Compress",
    )
)
"""Control flow, and shapes or broadcasts computed at run time: what no graph of static shapes needs."""
