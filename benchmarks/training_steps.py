"""What a training step costs at AIMv2-L/336 + Qwen2.5-0.5B by the depth of the merge, beside the paper's figures.

    python benchmarks/training_steps.py stage-1 [--rounds 5]   # PT in the paper: merge layer and projector train
    python benchmarks/training_steps.py stage-2 [--rounds 5]   # IT: everything trains
    python benchmarks/training_steps.py kept [--rounds 5]      # stage 1, the frozen blocks' outputs computed and read
    python benchmarks/training_steps.py flops                  # the operations of the same steps, counted by torch

One model with random weights carries a merge layer at each depth (an elastic checkpoint), so that the depths share
their weights and take turns. A step is what the trainer does between two optimiser steps: forward and backward of one
per-device batch in bf16 autocast, frozen parts without gradients, the head at the counted positions alone, and in stage
2 gradient checkpointing, as the recipe has it. The optimiser's own step is left out: at the recipe's global batch it
comes once in 512 samples, and it is the same at every depth; on a CPU AdamW's states for 0.8 B parameters would take
6.5 GB more.

Writes its part of benchmarks/results/training_steps.json after every round.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results" / "training_steps.json"
DEPTHS = ("1", "1/2", "1/4")
PAPER = {  # Tables 1, 4 and 8: hours (or days; the paper does not say) of pretraining and of instruction tuning
    "stage-1": {"1": 11.7, "1/2": 11.0, "1/4": 10.8},
    "stage-2": {"1": 25.8, "1/2": 20.0, "1/4": 19.3},
}
TRAINED = {
    "stage-1": ("compressor", "projector"),
    "stage-2": ("encoder", "compressor", "projector", "language_model"),
}
CHECKPOINTED = ("stage-2",)
STAGE_1_BATCH, CAPTION = 4, 24  # captions of LCS-558K are some twenty tokens
QUESTION, ANSWER = 100, 100  # tokens of a conversation about a picture
PICTURE = (336, 672)  # two tiles beside each other, and the whole picture: three tiles
IMAGE_TOKEN = 151655


def make_model(device: str):
    """AIMv2-L/336 and Qwen2.5-0.5B with random weights and a merge layer at each depth."""
    from published_sizes import qwen2_5_0_5b_config, vision_config
    from transformers import Aimv2VisionModel, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration

    torch.manual_seed(0)
    with torch.device(device):
        encoder = Aimv2VisionModel(vision_config("aimv2-large-patch14-336"))
        language_model = Qwen2ForCausalLM(qwen2_5_0_5b_config())
        model = LacoForConditionalGeneration.from_parts(
            encoder, language_model, image_token_id=IMAGE_TOKEN, at=DEPTHS, tiling={"tile": 336}
        )
    return model.train()


def make_batch(model, stage: str) -> dict[str, torch.Tensor]:
    """Stage 1: captions of one tile each. Stage 2: one conversation about a picture of three tiles."""
    from laco_export.layout_rules import SINGLE_TILE
    from laco_export.token_layouts import layouts
    from laco_training.data import IGNORED

    first = stage == "stage-1"
    rows, before, counted = (STAGE_1_BATCH, 1, CAPTION) if first else (1, QUESTION, ANSWER)
    sizes = [SINGLE_TILE if first else PICTURE] * rows
    plans = layouts(sizes, grid=model.token_grid, tiling=model.config.tiling_config)
    visual = len(plans[0])
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(1000, 100_000, (rows, before + counted), generator=generator)
    ids = torch.cat((torch.full((rows, visual), IMAGE_TOKEN), text), dim=1)
    labels = ids.clone()
    labels[:, : visual + before] = IGNORED
    tiles = sum(plan.tiles for plan in plans)
    batch = {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(tiles, 3, 336, 336, generator=generator),
        "image_sizes": torch.tensor(sizes),
    }
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def step(model, batch: dict[str, torch.Tensor]) -> None:
    """Forward and backward, as the trainer does them."""
    from laco_training.counted_positions import keep_counted_positions

    with torch.autocast(model.device.type, torch.bfloat16):
        loss = model(**{**batch, **keep_counted_positions(batch["labels"])}, use_cache=False).loss
    loss.backward()


def measure(stage: str, rounds: int, device: str) -> None:
    from laco_training.parameter_groups import set_trainable

    model = make_model(device)
    set_trainable(model, dict.fromkeys(TRAINED[stage]))
    if stage in CHECKPOINTED:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = make_batch(model, stage)
    runs: dict[str, dict[str, list[float]]] = {d: {"seconds": [], "cpu_seconds": [], "peak_gib": []} for d in DEPTHS}
    for depth in DEPTHS[-1:]:  # a warm-up; the gradients' memory is taken from here on
        model.set_depth(depth)
        step(model, batch)
    for _ in range(rounds):
        for depth in DEPTHS:
            model.set_depth(depth)
            model.zero_grad(set_to_none=False)
            _forget_peak()
            start, cpu = time.perf_counter(), time.process_time()
            step(model, batch)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            runs[depth]["seconds"].append(time.perf_counter() - start)
            runs[depth]["cpu_seconds"].append(time.process_time() - cpu)
            runs[depth]["peak_gib"].append(_peak_gib())
        _write(stage, device, summary(stage, runs, batch))


def measure_kept(rounds: int, device: str) -> None:
    """Stage 1's step with the frozen blocks computed and with their outputs read from the disk, in turns."""
    from laco_training.frozen_outputs import keep_frozen_outputs
    from laco_training.parameter_groups import set_trainable

    model = make_model(device)
    set_trainable(model, dict.fromkeys(TRAINED["stage-1"]))
    batch = make_batch(model, "stage-1")
    seconds: dict[str, dict[str, list[float]]] = {d: {"computed": [], "read": [], "cpu_to_wall": []} for d in DEPTHS}
    with tempfile.TemporaryDirectory() as folder:
        keeper = keep_frozen_outputs(model, Path(folder))
        for depth in DEPTHS:  # computed and kept; a warm-up too
            model.set_depth(depth)
            step(model, batch)
        entries = [file.stat().st_size for file in Path(folder).rglob("*.safetensors")]
        for _ in range(rounds):
            for depth in DEPTHS:
                model.set_depth(depth)
                for way, used in (("computed", None), ("read", keeper)):
                    model.vision_model.keeper = used
                    model.zero_grad(set_to_none=False)
                    start, cpu = time.perf_counter(), time.process_time()
                    step(model, batch)
                    spent = time.perf_counter() - start
                    seconds[depth][way].append(spent)
                    seconds[depth]["cpu_to_wall"].append((time.process_time() - cpu) / spent)
    values = {
        "batch": {"samples": len(batch["input_ids"]), "tiles": len(batch["pixel_values"])},
        "rounds": rounds,
        "bytes_a_tile": max(entries),
        "depths": {
            depth: {way: median(values) for way, values in ways.items()}
            | {"read_over_computed": median(r / c for r, c in zip(ways["read"], ways["computed"], strict=True))}
            for depth, ways in seconds.items()
        },
    }
    _write("kept", device, values)


def summary(stage: str, runs: dict, batch: dict[str, torch.Tensor]) -> dict:
    rows, tokens = batch["input_ids"].shape
    seconds = {depth: median(values["seconds"]) for depth, values in runs.items()}
    values: dict = {
        "batch": {"samples": rows, "tokens_a_sample": tokens, "tiles": len(batch["pixel_values"])},
        "rounds": len(runs["1"]["seconds"]),
        "threads": torch.get_num_threads(),
        "depths": {},
    }
    for depth, measured in runs.items():
        values["depths"][depth] = {
            "seconds": seconds[depth],
            "cpu_seconds": median(measured["cpu_seconds"]),
            "cpu_to_wall": median(c / s for c, s in zip(measured["cpu_seconds"], measured["seconds"])),
            "samples_per_second": rows / seconds[depth],
            "tokens_per_second": rows * tokens / seconds[depth],
            "peak_memory_gib": max(measured["peak_gib"]),
            # of the same round, so that a machine that slows down weighs on both
            "saving": 1 - median(a / b for a, b in zip(measured["seconds"], runs["1"]["seconds"])),
            "saving_in_the_paper": 1 - PAPER[stage][depth] / PAPER[stage]["1"],
        }
    return values


def count_flops() -> dict:
    """Operations of the same steps on tensors without content."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from laco_training.parameter_groups import set_trainable

    counted: dict = {}
    for stage in PAPER:
        counted[stage] = {}
        for depth in DEPTHS:
            with FakeTensorMode(allow_non_fake_inputs=True):
                model = make_model("cpu")
                set_trainable(model, dict.fromkeys(TRAINED[stage]))
                if stage in CHECKPOINTED:
                    model.gradient_checkpointing_enable({"use_reentrant": False})
                model.set_depth(depth)
                features = make_batch(model, stage)
                with FlopCounterMode(display=False) as counter:
                    _step_on_shapes(model, features)
            counted[stage][depth] = {"tflop": counter.get_total_flops() / 1e12}
        for depth in DEPTHS:
            counted[stage][depth]["saving"] = 1 - counted[stage][depth]["tflop"] / counted[stage]["1"]["tflop"]
    return counted


def _step_on_shapes(model, batch: dict[str, torch.Tensor]) -> None:
    """``step`` without what looks into the tensors: visual embeddings are added up, not placed."""
    visual = model.get_image_features(batch["pixel_values"])
    embeddings = model.get_input_embeddings()(batch["input_ids"]) + visual.sum((0, 1))
    counted = CAPTION if len(batch["input_ids"]) > 1 else ANSWER
    labels = batch["labels"][:, -counted:].contiguous()
    positions = torch.arange(counted)
    outputs = model.language_model(
        inputs_embeds=embeddings, labels=labels, shift_labels=labels, logits_to_keep=positions, use_cache=False
    )
    outputs.loss.backward()


def _forget_peak() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that the next peak is this step's
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here


def _peak_gib() -> float:
    from laco_training.trainer import peak_device_memory

    return peak_device_memory() / 2**30


def _write(part: str, device: str, values: dict) -> None:
    head = {
        **measured_on("torch", "transformers", device=device),
        "model": "AIMv2-L/336 and Qwen2.5-0.5B, random weights, bf16 autocast over FP32 weights; forward and backward",
    }
    values = json.loads(json.dumps(values), parse_float=lambda text: float(f"{float(text):.4g}"))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**earlier, **head, part: values}, indent=1) + "\n")
    print(json.dumps(values, indent=1), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PAPER, "kept", "flops"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.part == "flops":
        _write("flops", arguments.device, count_flops())
    elif arguments.part == "kept":
        measure_kept(arguments.rounds, arguments.device)
    else:
        measure(arguments.part, arguments.rounds, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
