"""What the independent computations of an export take (``laco_export/exporter/witnesses``).

    python benchmarks/witness_cost.py [--checkpoint NAME=DIR …] [--encoder aimv2-large-patch14-336] [--rounds 3]

Of each checkpoint, and of one with random weights of the encoder's published size (whose tokenizer takes no prompts),
each witness is run on the four drawn pictures: median seconds, wall-clock and of the processor. Tiles are those of
grids up to 3 x 3, which only a model that tiles pays for. PyTorch's own run of the pictures, which an export makes
anyway, stands beside. Writes ``results/witness_cost.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export_time import write_checkpoint
from measured_on import measured_on

from laco_export.exporter.golden_pictures import golden_pictures, prepare_pictures
from laco_export.exporter.loaded_checkpoint import load_checkpoint
from laco_export.exporter.proof import Reference
from laco_export.exporter.tower import VisionTower
from laco_export.exporter.witnesses.merged_windows import check_merged_windows
from laco_export.exporter.witnesses.packed_tokens import check_packed_tokens
from laco_export.exporter.witnesses.pixel_values import check_pixel_values, check_tiles
from laco_export.exporter.witnesses.placed_tokens import check_placed_tokens
from laco_export.quiet import quiet
from laco_export.tiling import Tiling

RESULTS = Path(__file__).resolve().parent / "results" / "witness_cost.json"


def timed(work: Callable[[], object], rounds: int) -> dict[str, float]:
    walls, processors = [], []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return {"seconds": statistics.median(walls), "cpu_seconds": statistics.median(processors)}


def measure(checkpoint: Path, rounds: int, *, prompts: bool) -> dict:
    """Seconds of each witness."""
    loaded = load_checkpoint(checkpoint, _first_depth(checkpoint))
    loaded.take_language_model()
    model, processor = loaded.model, loaded.checkpoint.processor
    preprocessing = processor.image_processor.preprocessing
    tiling = model.config.tiling_config or Tiling(preprocessing.height, 3, 3)
    images = golden_pictures([], 2 * preprocessing.height)
    size = model.vision_model.spec.image_size(model.config.vision_config)
    prepared = prepare_pictures(images, preprocessing, size)
    with quiet():
        reference = Reference.of(VisionTower(model).eval(), prepared.pixel_values)
        work = {
            "PyTorch's run": lambda: Reference.of(reference.tower, prepared.pixel_values),
            "pixel values": lambda: check_pixel_values(checkpoint, images, prepared),
            "tiles": lambda: check_tiles(checkpoint, prepared, tiling),
            "merged windows": lambda: check_merged_windows(reference.tower, reference.expected),
            "packed tokens": lambda: check_packed_tokens(model),
            "placed tokens": lambda: prompts and check_placed_tokens(model, processor),
        }
        return {name: timed(step, rounds) for name, step in work.items()}


def _first_depth(checkpoint: Path) -> str | None:
    depths = json.loads((checkpoint / "config.json").read_text())["compression"]["depths"]
    return depths[0] if depths else None


@contextmanager
def published(encoder: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(encoder, Path(folder) / encoder)
        yield Path(folder) / encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--encoder", default="aimv2-large-patch14-336")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    checkpoints = dict(argument.split("=", 1) for argument in args.checkpoint)
    measured = {name: measure(Path(folder), args.rounds, prompts=True) for name, folder in checkpoints.items()}
    with published(args.encoder) as folder:
        measured[args.encoder] = measure(folder, args.rounds, prompts=False)
    document = {**measured_on("torch", "transformers", "numpy", "pillow"), "rounds": args.rounds, "measured": measured}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    for name, steps in measured.items():
        print(name)
        for step, cost in steps.items():
            print(f"  {step:<16}{cost['seconds']:7.3f} s {cost['cpu_seconds']:7.3f} s CPU")


if __name__ == "__main__":
    main()
