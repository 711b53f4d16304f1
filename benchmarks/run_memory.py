"""Peak memory of ``laco-engine run`` by the decoder's precision, beside the files that it maps.

    python benchmarks/chat_first_token.py make --folder DIR --llm int8     # for each precision
    python benchmarks/run_memory.py --folder DIR [--llm fp32 fp16 int8 int4]

Each run is a process of its own that answers one question about one picture with 64 tokens. The baseline is a process
that imports what ``run`` imports and reads nothing. Bytes, not times: they hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from chat_first_token import machine, picture

RESULTS = Path(__file__).resolve().parent / "results" / "run_memory.json"
IMPORTS = """
import laco_engines.answering, laco_engines.generation.decoder, laco_engines.generation.generator
from laco_export.machine import peak_memory
print(peak_memory())
"""


def peak_of_run(bundle: Path, image: Path) -> dict:
    """What ``laco-engine run --json`` says."""
    command = [sys.executable, "-m", "laco_engines.cli", "run", bundle, "--image", image, "--question", "What is this?"]
    done = subprocess.run([*command, "--max-new-tokens", "64", "--json"], capture_output=True, check=True)
    return json.loads(done.stdout)


def measure(folder: Path, llm: str, image: Path, imports: int) -> dict:
    from laco_export.bundle import open_bundle

    bundle = folder / f"bundle-{llm}"
    files = open_bundle(bundle).manifest.files
    decoder = sum(entry["bytes"] for name, entry in files.items() if name.startswith("llm/"))
    vision = sum(entry["bytes"] for name, entry in files.items() if name.startswith("vision"))
    answer = peak_of_run(bundle, image)
    peak = answer["peak_memory_bytes"]
    return {
        "peak_bytes": peak,
        "decoder_files_bytes": decoder,
        "vision_files_bytes": vision,
        "peak_less_imports_over_files": (peak - imports) / (decoder + vision),
        "prompt_tokens": answer["prompt_tokens"],
        "new_tokens": answer["tokens"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where chat_first_token.py made the bundles")
    parser.add_argument("--llm", nargs="+", default=["fp32", "fp16", "int8", "int4"])
    arguments = parser.parse_args()
    imports = int(subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "picture.png"
        picture(1).save(image)
        rows = {llm: measure(arguments.folder, llm, image, imports) for llm in arguments.llm}
    result = machine() | {"imports_bytes": imports, "vision_precision": "fp32", "precisions": rows}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
