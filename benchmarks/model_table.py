"""Parameters, tokens and FLOPs of every encoder × compressor × depth at full size; writes docs/models.md.

    python benchmarks/model_table.py [--check] [--output docs/models.md]

Counted by layer arithmetic (``laco_export.models.flops``). ``--check`` builds each distinct model on the meta device
and compares with torch's flop counter; it takes a few minutes and fails above 1 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from published_sizes import VISION_SIZES, qwen2_5_0_5b_config, vision_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from laco_export.depth import Depth
from laco_export.models import LacoConfig, LacoForConditionalGeneration
from laco_export.models.compressors import COMPRESSORS
from laco_export.models.flops import vision_flops
from laco_export.token_grid import tokens_per_image

ROOT = Path(__file__).resolve().parents[1]
DEPTHS = ("1", "1/2", "1/4", "1/6", "1/12")


def make_config(encoder: str, method: str | None, depth: str) -> LacoConfig:
    compression = {"method": method, "depths": [depth] if method else []}
    text: AutoConfig = qwen2_5_0_5b_config()
    text.num_hidden_layers = 1  # the language model is not counted here
    return LacoConfig(vision_config(encoder), text, compression)


def row(encoder: str, method: str, depth: str) -> dict:
    config = make_config(encoder, method, depth)
    with torch.device("meta"):
        tower = LacoForConditionalGeneration(config).vision_model
    ratio = config.compression["ratio"]
    height, width = tower.grid
    flops, reference = vision_flops(config), vision_flops(make_config(encoder, method, "1"))
    return {
        "encoder": encoder,
        "compressor": method,
        "depth": str(Depth.parse(depth)),
        "block": config.compression["blocks"][0],
        "added_parameters": sum(p.numel() for p in tower.compressors.parameters()),
        "tokens_before": height * width,
        "tokens_after": tokens_per_image(tower.grid, ratio),
        "gflops": flops.total / 1e9,
        "compressor_gflops": flops.compressor / 1e9,
        "ratio_to_1": flops.total / reference.total,
    }


def counted_by_torch(encoder: str, method: str, depth: str) -> int:
    config = make_config(encoder, method, depth)
    with torch.device("meta"):
        model = LacoForConditionalGeneration(config).eval()
        model.vision_model.encoder.set_attn_implementation("eager")  # so that both products are seen as bmm
        height, width = model.vision_model.spec.image_size(config.vision_config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.get_image_features(torch.empty(1, 3, height, width))
    return counter.get_total_flops()


def markdown(rows: list[dict], checked: float | None) -> str:
    lines = [
        "# Encoders, compressors and depths: what each costs",
        "",
        "One picture at full size; the projector to Qwen2.5-0.5B's width is included. FLOPs by layer arithmetic"
        " (`laco_export/models/flops.py`; a multiply-add is two), made by `python benchmarks/model_table.py --check`"
        + (f"; torch's flop counter differs by at most {checked:.3%}." if checked is not None else "."),
        "The ratio is to the same compressor at depth 1.",
    ]
    for encoder in VISION_SIZES:
        mine = [row for row in rows if row["encoder"] == encoder]
        lines += ["", f"## {encoder}: {mine[0]['tokens_before']} tokens, {mine[0]['tokens_after']} after the merge", ""]
        lines += ["| compressor | parameters added | " + " | ".join(f"@{d}" for d in DEPTHS) + " |"]
        lines += ["|---|---:|" + "---:|" * len(DEPTHS)]
        for method in COMPRESSORS:
            cells = {row["depth"]: row for row in mine if row["compressor"] == method}
            parameters = cells["1"]["added_parameters"] / 1e6
            values = " | ".join(f"{cells[d]['gflops']:.1f} ({cells[d]['ratio_to_1']:.3f})" for d in DEPTHS)
            lines.append(f"| `{method}` | {parameters:.2f} M | {values} |")
        blocks = ", ".join(f"@{row['depth']} = block {row['block']}" for row in mine[: len(DEPTHS)])
        lines += ["", f"GFLOPs (ratio to @1). {blocks}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with torch's flop counter")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "models.md")
    arguments = parser.parse_args()
    rows = [row(encoder, method, depth) for encoder in VISION_SIZES for method in COMPRESSORS for depth in DEPTHS]
    worst = None
    if arguments.check:
        for entry in rows:
            counted = counted_by_torch(entry["encoder"], entry["compressor"], entry["depth"])
            entry["torch_gflops"] = counted / 1e9
            entry["difference"] = abs(entry["gflops"] / entry["torch_gflops"] - 1)
        worst = max(entry["difference"] for entry in rows)
    results = ROOT / "benchmarks" / "results" / "model_table.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    arguments.output.write_text(markdown(rows, worst))
    print(f"{arguments.output}: {len(rows)} rows" + (f", worst difference {worst:.4%}" if worst is not None else ""))
    return 0 if worst is None or worst < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
