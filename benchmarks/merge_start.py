"""How near a fresh merge leaves a pretrained encoder's features to its own: PyTorch's start beside an average's.

    make real-parts; laco-train --recipe laco_dinov2_smollm2_135m … --output RUN        (docs/small-vlm.md)
    python benchmarks/merge_start.py --run RUN

At each depth that the run's checkpoint carries, the encoder's features of held-out pictures are compared with those
that it gives without a merge, averaged over the same windows: the mean cosine of a token, and the error's norm over the
features'. Beside the two starts stands what the run made of the merge that it began with.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from measured_on import measured_on
from real_weights.labelled_pictures import LabelledPictures
from torch.nn import functional

from laco_export.models import checkpoint
from laco_export.models.initialization import average_merges
from laco_export.preprocessing import load_image
from laco_export.quiet import quiet_libraries

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from real_parts.cache import default_folder

RESULTS = Path(__file__).resolve().parent / "results" / "merge_start.json"
PICTURES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="what laco-train left")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    loaded = checkpoint.load(arguments.run / "checkpoint")
    pixels = held_out_pixels(loaded.processor)
    rows = {"trained": against_the_encoder(loaded.model, pixels)}
    torch.manual_seed(0)
    for _, compressor in loaded.model.vision_model.all_merges():
        for module in (compressor.mlp.norm, compressor.mlp.linear_1, compressor.mlp.linear_2):
            module.reset_parameters()
    rows["default"] = against_the_encoder(loaded.model, pixels)
    average_merges(loaded.model)
    rows["average"] = against_the_encoder(loaded.model, pixels)
    document = {**measured_on("torch", "transformers"), "pictures": PICTURES, "starts": rows}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def held_out_pixels(processor) -> torch.Tensor:
    """``pixel_values [PICTURES, 3, H, W]``."""
    held_out = LabelledPictures.read(default_folder() / "pictures" / "heldout.json").evenly_spaced(PICTURES)
    images = [load_image(file) for file in held_out.files]
    return processor(images=images, text=["<image>"] * len(images), return_tensors="pt")["pixel_values"]


@torch.inference_mode()
def against_the_encoder(model, pixels: torch.Tensor) -> dict[str, dict[str, float]]:
    """Depth → mean cosine of a token, and relative error."""
    vision, rows = model.vision_model, {}
    vision.path = None
    height, width = vision.grid
    ratio = vision.compression.paths[0].total_ratio
    windows = vision(pixels).unflatten(1, (height // ratio, ratio, width // ratio, ratio))
    wanted = windows.mean((2, 4)).flatten(1, 2)  # [B, N/r², C]
    for depth in vision.compression.depths:
        model.set_depth(depth)
        features = vision(pixels)
        rows[str(depth)] = {
            "cosine": round(functional.cosine_similarity(features, wanted, dim=-1).mean().item(), 3),
            "relative_error": round(((features - wanted).norm() / wanted.norm()).item(), 3),
        }
    return rows


if __name__ == "__main__":
    with quiet_libraries():
        main()
