"""From a command's start to its first token, of a full-size int4 bundle: lean, Optimum, and llama.cpp's own command.

    python benchmarks/cold_start.py make --folder DIR
    python benchmarks/cold_start.py measure --folder DIR [--llama LLAMA_COMPLETION --gguf Q4_0.gguf] [--rounds 5]

The bundle is an AIMv2-L at 1/2, of random weights, and the real parts' Qwen2.5-Coder-0.5B at int4. Each command is a
process of its own on one thread that reads everything, answers one question with one token and ends: processor seconds,
wall seconds and peak memory are of the whole of it, Python's start included. llama.cpp's ``llama-completion`` reads a
GGUF of the same language model and the same prompt as text; it has no vision tower, and ours opens its own although the
question shows no picture. Medians of rounds in which all run in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from chat_first_token import picture
from decoder_peers import parts_of
from measured_on import measured_on
from memory_by_step import run_sampled
from page_rows import replace_rows

RESULTS = Path(__file__).resolve().parent / "results" / "cold_start.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "decoder.md"
MODEL, QUESTION = "qwen2.5-coder", "What is the capital of France?"
TEXT_RUNTIMES = ("lean", "optimum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "measure"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--llama", type=Path, help="llama.cpp's llama-completion")
    parser.add_argument("--gguf", type=Path, help="what it reads, as decoder_peers.py makes it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    (make if arguments.step == "make" else measure)(arguments)


def make(arguments: argparse.Namespace) -> None:
    """The checkpoint and its bundle."""
    import torch
    from published_sizes import vision_config
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
    from laco_export.models.encoders import encoder_spec

    torch.manual_seed(0)
    config = vision_config("aimv2-large-patch14-336")
    words = AutoTokenizer.from_pretrained(parts_of(MODEL))
    model = LacoForConditionalGeneration.from_parts(
        encoder_spec(config.model_type).model_class()(config),
        AutoModelForCausalLM.from_pretrained(parts_of(MODEL), dtype=torch.float32),
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        at="1/2",
    )
    folder = arguments.folder / "checkpoint"
    checkpoint.save(model.eval(), LacoProcessor.for_model(model, words), folder)
    del model
    export_bundle(
        ExportOptions(folder, target="ort-cpu", llm="int4", output=arguments.folder / "bundle", compile=False)
    )


def measure(arguments: argparse.Namespace) -> None:
    """Every command in turn."""
    from laco_export.atomic import write_json
    from laco_export.bundle import open_bundle

    bundle = arguments.folder / "bundle"
    files = open_bundle(bundle).manifest.files
    runs: dict[str, list] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / "picture.png"
        picture(1).save(shown)
        commands = commands_of(bundle, shown, arguments)
        parts = {name: parts_of_answer(command) for name, command in commands.items() if name != "llama.cpp"}
        for turn in range(arguments.rounds):
            for name, command in commands.items():
                runs[name].append(run_sampled(command))
                print(f"{turn + 1} of {arguments.rounds}: {name} {runs[name][-1].cpu_s:.2f} s", file=sys.stderr)
    document = {
        **measured_on("onnxruntime", "optimum-onnx", "transformers", "torch", "numpy"),
        "threads": 1,
        "rounds": arguments.rounds,
        "bytes": {
            kind: sum(entry["bytes"] for name, entry in files.items() if name.startswith(kind))
            for kind in ("vision", "llm")
        },
        "gguf_bytes": arguments.gguf.stat().st_size if arguments.gguf else None,
        "commands": {name: {**of_rounds(every), **parts.get(name, {})} for name, every in runs.items()},
    }
    write_json(arguments.output, document)
    if arguments.output == RESULTS:
        replace_rows(PAGE, RESULTS.name, table_of(document))
    print(table_of(document))


def commands_of(bundle: Path, shown: Path, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Name → command."""
    run = [sys.executable, "-m", "laco_engines.cli", "run", str(bundle), "--question", QUESTION, "--threads", "1"]
    run += ["--max-new-tokens", "1", "--runtime", "onnxruntime", "--json"]
    commands = {}
    for runtime in TEXT_RUNTIMES:
        commands[runtime] = [*run, "--text-runtime", runtime]
        commands[f"{runtime}, with a picture"] = [*commands[runtime], "--image", str(shown)]
    if arguments.llama:
        prompt = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        options = ["-n", "1", "-t", "1", "-no-cnv", "--no-display-prompt", "--temp", "0", "-p", prompt]
        commands["llama.cpp"] = [str(arguments.llama), "-m", str(arguments.gguf), *options]
    return commands


def parts_of_answer(command: list[str]) -> dict:
    """Milliseconds of loading and of the first token by part, as the command itself says them (wall)."""
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    timings = {name: round(ms) for name, ms in said["timings"].items() if name.endswith("_ms")}
    return {"prompt_tokens": said["prompt_tokens"], "timings": timings}


def of_rounds(every: list) -> dict:
    """Medians, and all processor seconds."""
    return {
        "cpu_s": round(median(run.cpu_s for run in every), 2),
        "wall_s": round(median(run.wall_s for run in every), 2),
        "peak_resident_bytes": round(median(max(each.resident for each in run.samples) for run in every)),
        "peak_anonymous_bytes": round(median(max(each.anonymous for each in run.samples) for run in every)),
        "cpu_s_of_all": [round(run.cpu_s, 2) for run in every],
    }


def table_of(document: dict) -> str:
    lines = ["| one token, then the end | CPU s | wall s | peak MiB | of it anonymous |", "|---|--:|--:|--:|--:|"]
    for name, row in document["commands"].items():
        memory = " | ".join(f"{row[kind] / 2**20:,.0f}" for kind in ("peak_resident_bytes", "peak_anonymous_bytes"))
        lines.append(f"| {name} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} | {memory} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
