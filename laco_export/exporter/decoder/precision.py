"""The precisions of a decoder: what is quantised, how, and what stays wider.

Weights are quantised in blocks along the input dimension, in the form that ONNX Runtime's ``MatMulNBits`` reads:
activations are quantised to 8 bits per block on the way (accuracy level 4), sums are int32, and the result is FP32.
With 8 bits they go symmetrically to the nearest number; with 4 bits blocks have zero points and :mod:`.rounding` makes
good over text what rounding a weight loses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

ACCURACY_LEVEL = 4
"""Of MatMulNBits: int8 activations. Level 0 (FP32 activations) dequantises every weight on every call."""

FLOAT_ACTIVATIONS = 1
"""Of MatMulNBits: activations as they are. What the graph is proven at, never shipped."""


MAX_KL = 0.15
"""Nats a token in the mean that rounding may cost unless ``--max-kl`` says otherwise."""


@dataclass(frozen=True)
class DecoderPrecision:
    """One choice of ``--llm``.

    Attributes:
        dtype: of activations, KV cache and whatever is not quantised: numpy's name.
        bits: of the blocks' weight matrices; None where they stay floats.
        block_size: weights that share one scale; half as many where a layer's inputs are no multiple of it.
        zero_points: blocks have a zero point, and their weights are rounded over text.
        eight_bit_share: of the layers' weights, at most so many keep eight bits, those that would cost most.
        head_bits, head_block_size: of the head (and of the embedding).
        head_reason: why the head is wider than the rest, if it is.
    """

    name: str
    dtype: str = "float32"
    bits: int | None = None
    block_size: int = 128
    zero_points: bool = False
    eight_bit_share: float = 0.0
    head_bits: int | None = None
    head_block_size: int = 128
    head_reason: str = ""

    def of_blocks(self) -> tuple[int | None, int]:
        """Bits and block size of the layers' matrices."""
        return self.bits, self.block_size

    def of_head(self) -> tuple[int | None, int]:
        """Bits and block size of the head's and the embedding's rows."""
        return self.head_bits, self.head_block_size

    def bytes_of_head(self, rows: int, width: int) -> int:
        """What a step reads of so many of the head's rows of ``width`` weights; scales are counted, biases not."""
        if self.head_bits is None:
            return rows * width * np.dtype(self.dtype).itemsize
        blocks = -(-width // self.head_block_size)
        return rows * blocks * (self.head_block_size * self.head_bits // 8 + np.dtype(np.float32).itemsize)

    def to_manifest(self, bits_a_weight: float, eight_bit: dict[str, float]) -> dict:
        """For the manifest's ``quantization``.

        Args:
            bits_a_weight: of the layers, scales and zero points counted.
            eight_bit: the layers that keep eight bits, with the KL that each would have cost.
        """
        entry = {key: value for key, value in asdict(self).items() if key not in ("name", "dtype")}
        return {
            **entry,
            "operator": "com.microsoft.MatMulNBits",
            "method": "zero points; each weight's rounding error made good by the weights after it (GPTQ)"
            if self.zero_points
            else "round to nearest, symmetric, the scale of each block chosen by its squared error",
            "bits_a_weight": round(bits_a_weight, 3),
            "accuracy_level": ACCURACY_LEVEL,
            "kept_wide": [
                {"weights": "norms, biases, rotary tables", "precision": self.dtype, "reason": "0.1 % of the bytes"}
            ]
            + (
                [{"weights": "head", "precision": f"int{self.head_bits}", "reason": self.head_reason}]
                * bool(self.head_reason)
            )
            + [
                {"weights": name, "precision": "int8", "reason": f"alone, 4 bits would cost a KL of about {kl:.2g}"}
                for name, kl in eight_bit.items()
            ],
        }


def block_size_for(columns: int, block_size: int) -> int:
    """The block length of a matrix with so many inputs: half where whole blocks do not fill its rows."""
    # 576 inputs are 9 blocks of 64 or 5 of 128, the last one half padding: the same bytes, and a finer grid.
    return block_size // 2 if columns % block_size and not columns % (block_size // 2) else block_size


DECODER_PRECISIONS = {
    precision.name: precision
    for precision in (
        DecoderPrecision("fp32"),
        DecoderPrecision("fp16", dtype="float16"),
        DecoderPrecision("int8", bits=8, head_bits=8),
        DecoderPrecision(
            "int4",
            bits=4,
            zero_points=True,
            eight_bit_share=0.12,  # at most five bits a weight, also where blocks are of 64
            head_bits=8,
            head_reason="with 4 bits fewer next tokens are PyTorch's (benchmarks/results/decoder_quality.json), and a "
            "tied head is the embedding too",
        ),
    )
}
