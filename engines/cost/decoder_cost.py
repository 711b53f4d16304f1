"""What a language model costs by arithmetic: operations of a prompt, bytes that each token must read.

Read from the folder's ``config.json`` and the sizes of its files; no graph is opened. A multiply-add counts as two, and
matrix products are counted as in :mod:`.graph_cost`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod

import numpy as np

from laco_export.bundle import Bundle

_COMPUTED_IN = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "int8"}
"""Precision of the weights → the type that is multiplied at best: ONNX Runtime's CPU kernels of four bits multiply
eight-bit integers, and no kernel of four-bit weights multiplies anything narrower."""
_ON_DEVICES = {**_COMPUTED_IN, "int4": "fp16"}
"""The same on a GPU: four-bit weights become half-precision ones in the product (AWQ, GPTQ)."""


@dataclass(frozen=True)
class DecoderCost:
    """One language model.

    Attributes:
        linear_flops: of the layers' linear products, a token.
        head_flops: of the head, a token whose logits are asked for.
        attention_flops: of the attention's two products, a pair of tokens of which one looks at the other.
        weight_bytes: what one pass reads: the layers' and the head's weights.
        precision: of the weights, as the manifest spells it.
    """

    linear_flops: int
    head_flops: int
    attention_flops: int
    weight_bytes: int
    precision: str

    def prefill_flops(self, tokens: int, *, on_cpu: bool) -> dict[str, int]:
        """Operations of a prompt of so many tokens by the type that is multiplied; logits of its last one."""
        pairs = tokens * (tokens + 1) // 2
        kind = (_COMPUTED_IN if on_cpu else _ON_DEVICES)[self.precision]
        return {kind: self.linear_flops * tokens + self.head_flops + self.attention_flops * pairs}

    def token_flops(self, *, on_cpu: bool) -> dict[str, int]:
        """The same of one further token, without its attention, which depends on how many came before."""
        kind = (_COMPUTED_IN if on_cpu else _ON_DEVICES)[self.precision]
        return {kind: self.linear_flops + self.head_flops}


def decoder_cost(bundle: Bundle) -> DecoderCost:
    """Of a bundle that has a language model."""
    decoder = bundle.manifest.decoder
    config = json.loads(bundle.read(f"{decoder.folder}/config.json"))
    return cost_of_config(config, _weight_bytes(bundle), decoder.precision)


def cost_of_config(config: dict, weight_bytes: int, precision: str) -> DecoderCost:
    """Of a Llama-like decoder: four attention projections and a gated MLP a layer, then the head.

    Args:
        config: fields of transformers' configuration.
    """
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    queries = heads * head_width
    keys_values = 2 * (config.get("num_key_value_heads") or heads) * head_width
    layer = width * (queries + keys_values) + queries * width + 3 * width * config["intermediate_size"]
    return DecoderCost(
        linear_flops=2 * layers * layer,
        head_flops=2 * width * config["vocab_size"],
        attention_flops=4 * layers * queries,
        weight_bytes=weight_bytes,
        precision=precision,
    )


def _weight_bytes(bundle: Bundle) -> int:
    """The decoder's graph with its data; rows that are only looked up are not read by a pass."""
    decoder, files = bundle.manifest.decoder, bundle.manifest.files
    inside = sum(
        entry["bytes"]
        for name, entry in files.items()
        if name == decoder.graph or name.startswith((f"{decoder.graph}_data", f"{decoder.graph}.data"))
    )
    rows = decoder.embedding.rows
    if decoder.embedding.tied or not rows.file.startswith(decoder.graph):
        return inside
    return inside - prod(rows.shape) * np.dtype(rows.dtype).itemsize
