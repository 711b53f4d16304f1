"""Memory and time of loading a full-size checkpoint (AIMv2-L/336 + Qwen2.5-0.5B's shape, random weights).

    python benchmarks/load_checkpoint.py [--dtype bfloat16] [--folder DIR]

Writes the checkpoint once, then loads it in a fresh process. States peak resident memory over what the same imports
take, as a multiple of the weight file, and the time of loading beside the time of reading the file through once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "load_checkpoint.json"


def write_checkpoint(folder: Path, dtype: str) -> None:
    import torch
    from published_sizes import qwen2_5_0_5b_config, vision_config
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
    from laco_export.models.encoders import encoder_spec

    torch.set_default_dtype(getattr(torch, dtype))
    config = vision_config("aimv2-large-patch14-336")
    encoder = encoder_spec(config.model_type).model_class()(config)
    language_model = Qwen2ForCausalLM(qwen2_5_0_5b_config())
    words = {"<|im_end|>": 0, "<|image_pad|>": 1}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<|im_end|>")))
    model = LacoForConditionalGeneration.from_parts(encoder, language_model, image_token_id=1, at="1/2")
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder)


def peak_mib() -> float:
    """Peak resident memory of this process."""
    from laco_export.machine import peak_memory

    return peak_memory() / 2**20


def load(folder: Path, dtype: str) -> dict:
    """In a process of its own: imports, then load."""
    import torch

    from laco_export.models import checkpoint

    before = peak_mib()
    size = (folder / "model.safetensors").stat().st_size
    start = time.perf_counter()
    with open(folder / "model.safetensors", "rb") as file:
        while file.read(1 << 24):
            pass
    read_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    loaded = checkpoint.load(folder, dtype=getattr(torch, dtype))
    load_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    loaded_mib = peak_mib()
    # The weights are memory-mapped: they come into memory as they are first used.
    assert all(torch.isfinite(p.sum()) for p in loaded.model.parameters())
    return {
        "dtype": dtype,
        "file_mib": size / 2**20,
        "imports_mib": before,
        "loaded_mib": loaded_mib,
        "all_weights_used_mib": peak_mib(),
        "peak_over_imports_per_file": (peak_mib() - before) * 2**20 / size,
        "read_s": read_s,
        "load_s": load_s,
        "load_cpu_s": cpu_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here; default: a temporary folder")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(arguments.load, arguments.dtype)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "checkpoint"
        if not folder.exists():
            write_checkpoint(folder, arguments.dtype)
        command = [sys.executable, __file__, "--load", str(folder), "--dtype", arguments.dtype]
        output = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
    result = json.loads(output.splitlines()[-1])
    print(json.dumps(result, indent=1))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**earlier, arguments.dtype: result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
