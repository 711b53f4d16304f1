"""The rows of ``real_tower.json`` as Markdown, for docs/real-weights.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from page_rows import replace_rows

_HEAD = (
    "| | worst token, mean token, worst picture: cosine | points, worst picture | relative error "
    "| neighbours kept: held-out, training | kind right (as FP32) |\n"
    "|---|---|---:|---:|---|---|"
)
LABELS = {
    "fp16": "FP16, `laco-export`",
    "fp16 plain": "FP16, `onnxconverter-common`",
    "fp16 plain, keep_io_types": "the same with `keep_io_types`",
    "int8 trt10.3": "**INT8, `laco-calibrate`, `trt10.3`**",
    "int8 plain, MatMuls, symmetric": "INT8, `quantize_static`, MatMuls, symmetric",
    "int8 ort-cpu": "**INT8, `laco-calibrate`, `ort-cpu`**",
    "int8 plain, MatMuls": "INT8, `quantize_static`, MatMuls, zero points",
    "int8 plain, all operators": "INT8, `quantize_static`, all operators",
    "int8 trt10.3, --method mse": "`laco-calibrate`, `trt10.3`, `--method mse`",
    "weights alone int8": "weights alone in eight bits, `ort-cpu`",
    "weights alone int4": "weights alone in four bits, `ort-cpu`",
}
"""Rows in the table's order → what it calls them."""


def table_of(towers: Mapping[str, dict]) -> str:
    """A table a tower, its rows in the order of :data:`LABELS`; those that were not measured are left out."""
    parts = []
    for tower in towers.values():
        rows = tower["rows"]
        lines = [_line(label, rows[name]) for name, label in LABELS.items() if name in rows]
        title = (
            f"At {tower['size']} pixels, merged at {tower['depth']}; kind right from FP32's features: "
            f"{tower['fp32_right_kinds']} of 60 (majority {tower['majority']}):"
        )
        parts.append("\n".join([title, "", _HEAD, *lines]))
    return "\n\n".join(parts)


def write_table(towers: Mapping[str, dict], page: Path) -> None:
    """Replace the page's table."""
    replace_rows(page, "real_tower.json", table_of(towers))


def _line(label: str, row: dict) -> str:
    cosines = ", ".join(_cosine(row[key]) for key in ("worst_token_cosine", "mean_cosine", "worst_picture_cosine"))
    neighbours = f"{row['neighbours_kept']:.0%}, {row['training_neighbours_kept']:.0%}"
    kinds = f"{row['right_kinds']} ({row['same_kinds']})"
    error = f"{100 * row['mean_relative_error']:.1f} %"
    return f"| {label} | {cosines} | {row['points']:.2f} | {error} | {neighbours} | {kinds} |"


def _cosine(value: float) -> str:
    """Four digits; nearer to 1 than that, the distance."""
    return f"{value:.4f}" if value < 0.9999 else f"1 − {1 - value:.0e}"
