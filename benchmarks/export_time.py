"""Time and memory of ``laco-export`` with its proof at full size (random weights).

    python benchmarks/export_time.py [--encoder aimv2-large-patch14-336] [--precision fp16] [--llm fp32] [--compile]
                                     [--folder DIR]

Writes a checkpoint of the encoder, a merge at 1/2 and a projector once (``--folder`` keeps it), its language model of
Qwen2.5-0.5B's shape with ``--llm``, else of one small layer that is left out of the export. Then the command runs in a
process of its own: seconds, processor seconds and the most resident memory by step, anonymous and of files, and the
peak as a multiple of the checkpoint's weights in FP32. Pages of the mapped checkpoint and of libraries count as memory
here. Each run is added to ``results/export_time.json``; the last run of an encoder, precision, language model and gate
is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from measured_on import measured_on
from memory_by_step import run_sampled

RESULTS = Path(__file__).resolve().parent / "results" / "export_time.json"
LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime", "onnx-graphsurgeon", "polygraphy", "numpy")


def write_checkpoint(encoder: str, folder: Path, *, language_model: bool) -> None:
    import torch
    from published_sizes import qwen2_5_0_5b_config, vision_config
    from published_towers import IMAGE_TOKEN, byte_tokenizer
    from transformers import Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
    from laco_export.models.encoders import encoder_spec

    torch.manual_seed(0)
    tokenizer, config, text = byte_tokenizer(), vision_config(encoder), qwen2_5_0_5b_config()
    if not language_model:
        text.num_hidden_layers, text.layer_types, text.vocab_size = 1, text.layer_types[:1], len(tokenizer)
    model = LacoForConditionalGeneration.from_parts(
        encoder_spec(config.model_type).model_class()(config),
        Qwen2ForCausalLM(text),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        at="1/2",
    )
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder)


def measure(checkpoint: Path, precision: str, llm: str | None, compiled: bool) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "bundle"
        options = ["--model", str(checkpoint), f"--{precision}", "--output", str(bundle)]
        options += ["--llm", llm] if llm else ["--no-llm"]
        options += [] if compiled else ["--no-compile"]
        used = run_sampled([sys.executable, "-m", "laco_export.cli", *options]).to_json()
        manifest = json.loads((bundle / "laco.json").read_text())
    weights = fp32_weights(checkpoint, language_model=bool(llm))
    compared = [*manifest["accuracy"]["tensors"], *manifest["accuracy"]["branches"]]
    return {
        "precision": precision,
        "llm": llm,
        "compiled": compiled,
        "fp32_weights_bytes": weights,
        "peak_over_fp32_weights": round(used["peak_resident_bytes"] / weights, 2),
        "anonymous_peak_over_fp32_weights": round(used["peak_anonymous_bytes"] / weights, 2),
        **used,
        "pictures": len(manifest["accuracy"]["pictures"]),
        "judged_by": manifest["accuracy"]["judged_by"],
        "compared_tensors": len(compared),
        "lowest_cosine": min(compared, key=lambda tensor: tensor["cosine"]),
        "bytes": {name: entry["bytes"] for name, entry in manifest["files"].items() if entry["bytes"] > 100_000},
    }


def fp32_weights(checkpoint: Path, *, language_model: bool) -> int:
    """Bytes in FP32 of what is exported of the checkpoint."""
    from safetensors import safe_open

    count = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118, no mapping
                if language_model or not name.startswith("language_model."):
                    count += math.prod(file.get_slice(name).get_shape())
    return 4 * count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="aimv2-large-patch14-336")
    parser.add_argument("--precision", choices=["fp16", "bf16", "fp32"], default="fp16")
    parser.add_argument("--llm", choices=["fp32", "fp16", "int8", "int4"], help="with a language model of 0.5B")
    parser.add_argument("--compile", action="store_true", help="with the build by TensorRT-RTX")
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or take the one that is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "checkpoint"
        if not folder.exists():
            write_checkpoint(arguments.encoder, folder, language_model=bool(arguments.llm))
        result = measure(folder, arguments.precision, arguments.llm, arguments.compile)
    result |= {"encoder": arguments.encoder, **measured_on(*LIBRARIES)}
    print(json.dumps(result, indent=1))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with_llm, compiled = f" with {arguments.llm} language model" * bool(arguments.llm), " compiled" * arguments.compile
    key = f"{arguments.encoder} {arguments.precision}{with_llm}{compiled}"
    RESULTS.write_text(json.dumps({**earlier, key: result}, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
