"""Parameters, FLOPs and training memory of the published sizes, by the plan's own arithmetic; no weights are made.

    python benchmarks/training_memory.py

For each encoder and language model: parameters, the tower's GFLOPs at three depths, and what a process of the paper's
stages holds (``laco_training.memory``): one sample a forward pass, bf16 autocast over FP32 weights, gradient
checkpointing in the stages that train everything. "Of eight" divides weights, gradients and optimiser states by eight,
as FSDP and ZeRO-3 shard them. ``distil`` holds no language model; eight pictures a forward pass, the merge at 1/2 and
the blocks behind it trained. The rows go to docs/training.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from page_rows import replace_rows
from published_sizes import language_config, vision_config
from rich.progress import track
from transformers import AutoModelForCausalLM

from laco_export.models import LacoForConditionalGeneration
from laco_export.models.encoders import encoder_spec
from laco_export.models.flops import vision_flops
from laco_export.models.merging import merge_inside
from laco_training.distillation.plan import estimate_distillation
from laco_training.distillation.recipe import DistillationRecipe
from laco_training.memory import ForwardShape, MemoryEstimate, estimate_memory
from laco_training.plan import count_parameters
from laco_training.recipe import StageRecipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "training_memory.json"
SHARDS = 8
TILES = 10  # of the largest tiled picture: a base tile and nine
WORDS = 512  # of a sample beside its pictures
DEPTHS = ("1", "1/2", "1/4")
PAIRS = (
    ("aimv2-large-patch14-336", "Qwen2.5-0.5B"),
    ("aimv2-huge-patch14-336", "Qwen2.5-1.5B"),
    ("aimv2-1B-patch14-336", "Qwen2.5-3B"),
    ("aimv2-large-patch14-336", "Llama-3.2-1B"),
    ("aimv2-large-patch14-336", "Llama-3.2-3B"),
    ("siglip-so400m-patch14-384", "Qwen2.5-7B"),
    ("siglip2-so400m-patch16-384", "Qwen3-0.6B"),
    ("siglip2-so400m-patch16-384", "Qwen3-1.7B"),
    ("siglip2-so400m-patch16-384", "Qwen3-4B"),
    ("siglip2-so400m-patch16-384", "Qwen3-8B"),
    ("internvit-300m-448px", "Qwen2.5-0.5B"),
    ("internvit-6b-448px-v2.5", "Qwen2.5-7B"),
)
_EVERYTHING = dict.fromkeys(("encoder", "compressor", "projector", "language_model"), 1e-5)
STAGES = {
    "stage 1": (StageRecipe(data="", learning_rates={"compressor": 1e-3, "projector": 1e-3}), 1),
    "all parts": (StageRecipe(data="", learning_rates=_EVERYTHING, gradient_checkpointing=True), TILES),
}
"""By name: what is trained, and tiles of a sample."""
DISTIL = StageRecipe(
    data="",
    learning_rates={"compressor": 1e-3, "encoder": 1e-4},
    per_device_batch_size=8,
    gradient_checkpointing=True,
    distillation=DistillationRecipe(),
)


def build(encoder: str, language_model: str, at: str | None = "1/2") -> LacoForConditionalGeneration:
    """The model with tensors of whatever kind the caller's mode makes."""
    config = vision_config(encoder)
    tower = encoder_spec(config.model_type).model_class()(config)
    words = AutoModelForCausalLM.from_config(language_config(language_model))
    return LacoForConditionalGeneration.from_parts(
        tower, words, image_token_id=0, at=at or (), method="laco" if at else None
    )


def memory_of(encoder: str, language_model: str, stage: StageRecipe, tiles: int) -> MemoryEstimate:
    with torch.device("meta"):
        tokens = build(encoder, language_model).tokens_per_image
    shape = ForwardShape(rows=1, tokens=tiles * tokens + WORDS, tiles=tiles, counted=WORDS)
    return estimate_memory(lambda: build(encoder, language_model), stage, shape)


def distillation_of(encoder: str, language_model: str) -> MemoryEstimate:
    def teacher_and_student() -> tuple[LacoForConditionalGeneration, LacoForConditionalGeneration]:
        teacher = build(encoder, language_model, None)
        return teacher, merge_inside(teacher, "1/2")

    pictures = DISTIL.per_device_batch_size
    return estimate_distillation(teacher_and_student, DISTIL, ForwardShape(pictures, 0, pictures, 0))


def row(encoder: str, language_model: str) -> dict:
    with torch.device("meta"):
        models = {depth: build(encoder, language_model, depth) for depth in DEPTHS}
    memory = {}
    for name, (stage, tiles) in STAGES.items():
        estimate = memory_of(encoder, language_model, stage, tiles)
        sharded = (estimate.total - estimate.activations) / SHARDS + estimate.activations
        memory[name] = {**asdict(estimate), "total": estimate.total, "of_eight": sharded}
    estimate = distillation_of(encoder, language_model)
    memory["distil"] = {**asdict(estimate), "total": estimate.total}
    return {
        "encoder": encoder,
        "language_model": language_model,
        "parameters": count_parameters(models["1/2"]),
        "gflops": {depth: vision_flops(model.config).total / 1e9 for depth, model in models.items()},
        "memory": memory,
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = [row(*pair) for pair in track(PAIRS, "sizes")]
    RESULTS.write_text(json.dumps({"torch": torch.__version__, "shards": SHARDS, "rows": rows}, indent=1) + "\n")
    replace_rows(ROOT / "docs" / "training.md", RESULTS.name, markdown(rows))
    print(RESULTS)


def markdown(rows: list[dict]) -> str:
    lines = [
        "| encoder | language model | parameters | GFLOPs @1, 1/2, 1/4 | stage 1 | all parts | of eight | distil |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for values in rows:
        memory, parameters = values["memory"], values["parameters"]
        gib = [memory["stage 1"]["total"], memory["all parts"]["total"]]
        gib += [memory["all parts"]["of_eight"], memory["distil"]["total"]]
        sizes = f"{parameters['encoder'] / 1e9:.2f} + {parameters['language_model'] / 1e9:.2f} B"
        gflops = ", ".join(f"{count:.0f}" for count in values["gflops"].values())
        cells = [values["encoder"], values["language_model"], sizes, gflops, *(f"{size / 2**30:.1f}" for size in gib)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
