"""How many times longer than its floor a model takes on a board: public figures beside the floors of their models.

    python benchmarks/plan_public_figures.py            # prints the ratios, writes results/plan_public_figures.json

``laco-engine plan --device`` predicts with the span of these ratios (``laco_engines/plan/spans.py``). Floors are those
of ``laco_engines.cost`` by the peaks of ``laco_engines/devices/profiles.py``. Nothing is measured here. Sources:

* ``[edge-llm]``: NVIDIA, TensorRT Edge-LLM, user guide, performance benchmarks, batch 1: the Thor figures of language
  models are of version 0.4.0, the others of versions 0.9 to 0.11. The vision towers run in FP16 on pictures of 265
  visual tokens, four patches each. Prompts of the VLMs are longer than their visual tokens by words that are not given
  and are not counted: their prefill ratios are slightly too large.
* ``[onnxsim]``: onnxsim's scripts for ViT-B/16 on an Orin Nano, TensorRT 10.3. Left out are its two faster runs, which
  give wrong answers: FP16 with a decomposed LayerNorm (19 % top-1), INT8 with residual additions in eight bits (5 %).

Left out too are NVFP4 language models, which no bundle has, and Qwen2.5-VL-7B on Thor, whose number of patches is not
given.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from laco_engines.cost.roofline import floor_of
from laco_engines.devices.profiles import PROFILES

OUTPUT = Path(__file__).resolve().parent / "results" / "plan_public_figures.json"
VISUAL_TOKENS = 265


@dataclass(frozen=True)
class VitSizes:
    """A vision transformer: blocks with four attention projections and an MLP of two matrices.

    Attributes:
        patches: of all pictures; ``prefix`` are tokens that are no patch.
        patch_inputs: numbers in a patch.
        heads_flops, heads_weights: of what stands behind the blocks: mergers, or a classifier.
    """

    patches: int
    width: int
    mlp: int
    blocks: int
    patch_inputs: int
    heads_flops: int
    heads_weights: int
    prefix: int = 0

    @property
    def linear_flops(self) -> int:
        tokens, matrices = self.patches + self.prefix, 4 * self.width**2 + 2 * self.width * self.mlp
        patches = 2 * self.patches * self.patch_inputs * self.width
        return 2 * tokens * matrices * self.blocks + patches + self.heads_flops

    @property
    def attention_flops(self) -> int:
        return 4 * (self.patches + self.prefix) ** 2 * self.width * self.blocks

    @property
    def weights(self) -> int:
        matrices = 4 * self.width**2 + 2 * self.width * self.mlp
        return matrices * self.blocks + self.patch_inputs * self.width + self.heads_weights


@dataclass(frozen=True)
class LlmSizes:
    """A decoder with grouped attention and a gated MLP; its weights are counted as ``laco_engines.cost.decoder_cost``
    counts a graph's: each is multiplied with every token, the head's with the last alone, attention's products are left
    out."""

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.mlp)

    @property
    def head_weights(self) -> int:
        return self.width * self.vocabulary

    @property
    def int4_bytes(self) -> int:
        """Four bits with a half-precision scale for 128 weights; the head in half precision, as AWQ leaves it."""
        return int(self.layer_weights * (0.5 + 2 / 128)) + 2 * self.head_weights


def merged(width: int, output: int, mergers: int) -> dict[str, int]:
    """Qwen3-VL's mergers: four patches side by side through an MLP of two matrices."""
    weights = mergers * (4 * width * 4 * width + 4 * width * output)
    return {"heads_flops": 2 * VISUAL_TOKENS * weights, "heads_weights": weights}


_PATCH = 3 * 2 * 16 * 16  # two frames of 16 x 16 in three colours
VITS = {
    "Qwen3-VL-2B": VitSizes(4 * VISUAL_TOKENS, 1024, 4096, 24, _PATCH, **merged(1024, 2048, 4)),
    # Its sizes are inferred: 12 blocks of 768 make up what its 0.87 billion parameters leave beside its language model.
    "Qwen3.5-0.8B": VitSizes(4 * VISUAL_TOKENS, 768, 3072, 12, _PATCH, **merged(768, 1024, 1)),
    "ViT-B/16": VitSizes(196, 768, 3072, 12, 3 * 16 * 16, 2 * 768 * 1000, 768 * 1000, prefix=1),
}
VISION_FIGURES = [
    ("Qwen3-VL-2B", "orin-nano", "fp16", 151.0, "[edge-llm]"),
    ("Qwen3-VL-2B", "agx-orin", "fp16", 39.0, "[edge-llm]"),
    ("Qwen3-VL-2B", "thor", "fp16", 11.7, "[edge-llm]"),
    ("Qwen3.5-0.8B", "orin-nano", "fp16", 49.0, "[edge-llm]"),
    ("Qwen3.5-0.8B", "agx-orin", "fp16", 13.2, "[edge-llm]"),
    ("Qwen3.5-0.8B", "thor", "fp16", 3.9, "[edge-llm]"),
    ("ViT-B/16", "orin-nano", "fp32", 13.65, "[onnxsim]"),
    ("ViT-B/16", "orin-nano", "fp16", 5.68, "[onnxsim]"),
    ("ViT-B/16", "orin-nano", "int8", 4.92, "[onnxsim]"),
]
"""Model, device, precision, milliseconds, source."""

LANGUAGE_MODELS = {
    "Qwen3-0.6B": LlmSizes(1024, 3072, 28, 16, 8, 128, 151936),
    "Qwen3-VL-2B": LlmSizes(2048, 6144, 28, 16, 8, 128, 151936),
    "Qwen3-4B": LlmSizes(2560, 9728, 36, 32, 8, 128, 151936),
    "Llama-3.1-8B": LlmSizes(4096, 14336, 32, 32, 8, 128, 128256),
}
PREFILL_FIGURES = [
    ("Qwen3-VL-2B", "orin-nano", VISUAL_TOKENS, 191.0),
    ("Qwen3-VL-2B", "agx-orin", VISUAL_TOKENS, 50.0),
    ("Qwen3-0.6B", "thor", 366, 21.0),
    ("Qwen3-4B", "thor", 364, 116.2),
    ("Llama-3.1-8B", "thor", 383, 215.5),
]
"""INT4 weights: model, device, tokens, milliseconds."""
DECODE_FIGURES = [
    ("Qwen3-0.6B", "orin-nano", 72.8),
    ("Qwen3-VL-2B", "orin-nano", 36.9),
    ("Qwen3-VL-2B", "agx-orin", 98.4),
    ("Qwen3-0.6B", "thor", 270.2),
    ("Qwen3-4B", "thor", 76.4),
    ("Llama-3.1-8B", "thor", 50.8),
]
"""INT4 weights: model, device, tokens a second."""


def floor_ms(flops: Mapping[str, int], traffic: int, device: str) -> float:
    profile = PROFILES[device]
    return floor_of(flops, traffic, peak_flops=profile.peak_flops, bandwidth=profile.bandwidth).ms


def vit_floor_ms(model: str, device: str, precision: str) -> float:
    """Of a vision tower; in INT8 its linear products alone, as the figure's."""
    sizes, bytes_each = VITS[model], {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    attention = "fp16" if precision == "int8" else precision
    flops = {precision: sizes.linear_flops}
    flops[attention] = flops.get(attention, 0) + sizes.attention_flops
    return floor_ms(flops, bytes_each * sizes.weights, device)


def pass_floor_ms(model: str, device: str, tokens: int) -> float:
    """Of one pass of a language model of four bits, which a GPU widens to half precision in its products."""
    sizes = LANGUAGE_MODELS[model]
    flops = {"fp16": 2 * (tokens * sizes.layer_weights + sizes.head_weights)}
    return floor_ms(flops, sizes.int4_bytes, device)


def compared() -> dict[str, list[dict]]:
    """Each figure with its floor and the ratio, by part."""

    def row(model: str, device: str, published: float, floor: float, **more: object) -> dict:
        times = {"published_ms": published, "floor_ms": floor, "ratio": published / floor}
        return {"model": model, "device": device, **more, **times}

    vision = [
        row(model, device, ms, vit_floor_ms(model, device, precision), precision=precision, source=source)
        for model, device, precision, ms, source in VISION_FIGURES
    ]
    prefill = [
        row(model, device, ms, pass_floor_ms(model, device, tokens), precision="int4", tokens=tokens)
        for model, device, tokens, ms in PREFILL_FIGURES
    ]
    decode = [
        row(model, device, 1000 / rate, pass_floor_ms(model, device, 1), precision="int4")
        for model, device, rate in DECODE_FIGURES
    ]
    return {"vision": vision, "prefill": prefill, "decode": decode}


def span(rows: list[dict]) -> dict[str, float]:
    """The ends of the ratios and their geometric mean."""
    ratios = [row["ratio"] for row in rows]
    middle = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return {"low": min(ratios), "middle": middle, "high": max(ratios), "figures": len(ratios)}


def with_others(rows: list[dict]) -> list[dict]:
    """Each figure with whether a prediction by the others alone would have held it."""
    judged = []
    for index, row in enumerate(rows):
        others = span(rows[:index] + rows[index + 1 :])
        judged.append({**row, "within_span_of_others": others["low"] <= row["ratio"] <= others["high"]})
    return judged


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    figures = {part: with_others(rows) for part, rows in compared().items()}
    spans = {part: span(rows) for part, rows in figures.items()}
    for part, rows in figures.items():
        for row in rows:
            named = f"{row['model']} {row['precision']} on {row['device']}"
            print(
                f"{part:8} {named:34} {row['published_ms']:8.2f} ms {row['floor_ms']:8.2f} {row['ratio']:6.2f}"
                f"{'' if row['within_span_of_others'] else '  outside the others'}"
            )
        print(f"{part:8} {spans[part]}")
    OUTPUT.write_text(json.dumps({"spans": spans, **figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
