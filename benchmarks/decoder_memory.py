"""Peak resident memory of a process that runs the decoder, by precision (Qwen2.5-0.5B's shape).

    python benchmarks/decoder_models.py --folder DIR
    python benchmarks/decoder_memory.py --folder DIR [--only int4 …]

``--only`` measures some and leaves the other rows of the results as they are, if they are of the same machine and
versions.

Each precision runs in a process of its own: it opens the decoder and generates 65 tokens after 174. The peak is the
kernel's, mapped pages of the weight file included. Beside it stands a process that only imports the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from decoder_models import machine

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_memory.json"
PRECISIONS = ("fp32", "fp16", "int8", "int4")
IMPORTS = "imports"
ALLOWED = 1.25  # of the decoder's files, on top of the imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=PRECISIONS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.folder, arguments.worker)
        return
    imports = measured(arguments.folder, IMPORTS)["peak_bytes"]
    rows = earlier_rows(arguments.output)
    for name in arguments.only:
        files = sum(path.stat().st_size for path in (arguments.folder / name / "llm").iterdir())
        row = measured(arguments.folder, name)
        limit = ALLOWED * files + imports
        rows[name] = {"files_bytes": files, **row, "over_files": round((row["peak_bytes"] - imports) / files, 4)}
        print(name, json.dumps(rows[name]), "within" if row["peak_bytes"] <= limit else "OVER", f"{limit / 1e6:.0f} MB")
    rows = {name: rows[name] for name in (*PRECISIONS, *rows) if name in rows}
    document = machine() | {"imports_bytes": imports, "allowed_over_files": ALLOWED, "decoders": rows}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")


def earlier_rows(results: Path) -> dict:
    if not results.is_file():
        return {}
    earlier = json.loads(results.read_text())
    return earlier["decoders"] if machine().items() <= earlier.items() else {}


def measured(folder: Path, name: str) -> dict:
    command = [sys.executable, __file__, "--folder", str(folder), "--worker", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def work(folder: Path, name: str) -> None:
    import decoder_speed

    import laco_engines.generation.decoder  # noqa: F401 - what a running decoder has imported
    from laco_export.machine import peak_memory

    peaks = {}
    if name != IMPORTS:
        decoder, embeds = decoder_speed.load(folder, name)
        peaks["peak_when_loaded_bytes"] = peak_memory()
        decoder_speed.generate(decoder, embeds)
    print(json.dumps({**peaks, "peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main()
