"""The precisions of a decoder: what is quantised, how, and what stays wider.

Weights are quantised round-to-nearest, symmetrically, in blocks along the input dimension, in the form that ONNX
Runtime's ``MatMulNBits`` reads: activations are quantised to 8 bits per block on the way (accuracy level 4), sums are
int32, and the result is FP32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

ACCURACY_LEVEL = 4
"""Of MatMulNBits: int8 activations. Level 0 (FP32 activations) dequantises every weight on every call."""


@dataclass(frozen=True)
class DecoderPrecision:
    """One choice of ``--llm``.

    Attributes:
        dtype: of activations, KV cache and whatever is not quantised: numpy's name.
        bits: of the blocks' weight matrices; None where they stay floats.
        block_size: weights that share one scale.
        head_bits, head_block_size: of the head (and of the embedding).
        head_reason: why the head is wider than the rest, if it is.
    """

    name: str
    dtype: str = "float32"
    bits: int | None = None
    block_size: int = 128
    head_bits: int | None = None
    head_block_size: int = 128
    head_reason: str = ""

    def of_blocks(self) -> tuple[int | None, int]:
        """Bits and block size of the layers' matrices."""
        return self.bits, self.block_size

    def of_head(self) -> tuple[int | None, int]:
        """Bits and block size of the head's and the embedding's rows."""
        return self.head_bits, self.head_block_size

    def to_manifest(self) -> dict | None:
        """For the manifest's ``quantization``; None where nothing is quantised."""
        if self.bits is None:
            return None
        entry = {key: value for key, value in asdict(self).items() if key not in ("name", "dtype")}
        return {
            **entry,
            "operator": "com.microsoft.MatMulNBits",
            "method": "round to nearest, symmetric, the scale of each block chosen by its squared error",
            "accuracy_level": ACCURACY_LEVEL,
            "kept_wide": [
                {"weights": "norms, biases, rotary tables", "precision": self.dtype, "reason": "0.1 % of the bytes"}
            ]
            + (
                [{"weights": "head", "precision": f"int{self.head_bits}", "reason": self.head_reason}]
                * bool(self.head_reason)
            ),
        }


DECODER_PRECISIONS = {
    precision.name: precision
    for precision in (
        DecoderPrecision("fp32"),
        DecoderPrecision("fp16", dtype="float16"),
        DecoderPrecision("int8", bits=8, head_bits=8),
        DecoderPrecision(
            "int4",
            bits=4,  # in blocks of 32: 2 of 300 answers more are right, a prefill takes 31 % longer, a step 7 %
            head_bits=8,
            head_reason="with 4 bits fewer next tokens are PyTorch's (benchmarks/results/decoder_quality.json), and a "
            "tied head is the embedding too",
        ),
    )
}
