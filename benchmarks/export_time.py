"""Time and memory of ``laco-export`` with its proof at full size (random weights).

    python benchmarks/export_time.py [--encoder aimv2-large-patch14-336] [--precision fp16] [--compile] [--folder DIR]

Writes a checkpoint of the encoder, a merge at 1/2 and a projector into a language model of Qwen2.5-0.5B's width once
(``--folder`` keeps it), then exports the vision tower in a fresh process: seconds by step, processor seconds, and peak
resident memory as a multiple of the tower's FP32 weights. Pages of the mapped checkpoint count as memory here. Each run
is added to ``results/export_time.json``; the last run of an encoder, precision and gate is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured_on import device_title

from laco_export.machine import library_versions

RESULTS = Path(__file__).resolve().parent / "results" / "export_time.json"
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnx-graphsurgeon", "polygraphy", "numpy")


def write_checkpoint(encoder: str, folder: Path) -> None:
    import torch
    from published_sizes import vision_config
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
    from laco_export.models.encoders import encoder_spec

    torch.manual_seed(0)
    config = vision_config(encoder)
    text = Qwen2Config(hidden_size=896, num_hidden_layers=1, vocab_size=128, tie_word_embeddings=True)
    text.intermediate_size, text.num_attention_heads, text.num_key_value_heads = 64, 14, 2
    words = {"<|im_end|>": 0, "<|image_pad|>": 1}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<|im_end|>")))
    model = LacoForConditionalGeneration.from_parts(
        encoder_spec(config.model_type).model_class()(config), Qwen2ForCausalLM(text), image_token_id=1, at="1/2"
    )
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder)


def export(arguments: list[str]) -> int:
    """In a process of its own: the command, then what it took, on stdout."""
    from laco_export.cli import main
    from laco_export.machine import peak_memory

    start = time.perf_counter()
    code = main(arguments)
    peak = peak_memory()
    used = os.times()
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": used.user + used.system, "peak": peak}))
    return code


def fp32_weights(bundle: Path, bytes_per_weight: int) -> int:
    return (bundle / "vision.data").stat().st_size * 4 // bytes_per_weight


def measure(checkpoint: Path, precision: str, compiled: bool) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "bundle"
        options = ["--model", str(checkpoint), f"--{precision}", "--no-llm", "--output", str(bundle)]
        command = [sys.executable, __file__, "--export", *options, *([] if compiled else ["--no-compile"])]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - began
        used = json.loads(done.stdout.splitlines()[-1])
        manifest = json.loads((bundle / "laco.json").read_text())
        weights = fp32_weights(bundle, 4 if precision == "fp32" else 2)
        compared = [*manifest["accuracy"]["tensors"], *manifest["accuracy"]["branches"]]
        return {
            "precision": precision,
            "compiled": compiled,
            "seconds_with_start_up": round(wall, 1),
            "seconds": round(used["seconds"], 1),
            "cpu_seconds": round(used["cpu_seconds"], 1),
            "peak_bytes": used["peak"],
            "fp32_weights_bytes": weights,
            "peak_over_fp32_weights": round(used["peak"] / weights, 2),
            "steps": manifest["build"]["seconds"],
            "pictures": len(manifest["accuracy"]["pictures"]),
            "judged_by": manifest["accuracy"]["judged_by"],
            "compared_tensors": len(compared),
            "lowest_cosine": min(compared, key=lambda tensor: tensor["cosine"]),
            "bytes": {name: entry["bytes"] for name, entry in manifest["files"].items() if entry["bytes"] > 100_000},
        }


def main() -> int:
    if sys.argv[1:2] == ["--export"]:
        return export(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="aimv2-large-patch14-336")
    parser.add_argument("--precision", choices=["fp16", "bf16", "fp32"], default="fp16")
    parser.add_argument("--compile", action="store_true", help="with the build by TensorRT-RTX")
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or take the one that is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "checkpoint"
        if not folder.exists():
            write_checkpoint(arguments.encoder, folder)
        result = measure(folder, arguments.precision, arguments.compile)
    result |= {
        "encoder": arguments.encoder,
        "device": device_title(),
        "python": platform.python_version(),
        "versions": library_versions(LIBRARIES),
    }
    print(json.dumps(result, indent=1))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    key = f"{arguments.encoder} {arguments.precision}{' compiled' if arguments.compile else ''}"
    RESULTS.write_text(json.dumps({**earlier, key: result}, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
