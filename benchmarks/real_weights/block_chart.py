"""Errors by block as a picture: a column a tower, the points of each block alone over the error that adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from laco_export.charts import BAD, GOOD, QUIET, SERIES_COLOURS, new_figure, save_chart

FOLLOWED = {
    "int8 plain, all operators": "INT8, ONNX Runtime's quantiser, all operators",
    "int8 plain, MatMuls, symmetric": "the same, MatMuls alone, symmetric",
    "int8 plain, MatMuls": "the same, MatMuls alone, zero points",
    "int8 trt10.3": "INT8, laco-calibrate for TensorRT",
    "int8 ort-cpu": "INT8, laco-calibrate for ONNX Runtime",
    "fp16 plain": "FP16, onnxconverter-common",
    "fp16": "FP16, laco-export",
}
"""Rows → what the legend calls them."""


def draw_errors(towers: Mapping[str, dict], path: Path) -> None:
    """Write the chart of ``real_tower.json``'s towers of 224 pixels that have all rows of it; none where none has."""
    shown = [tower for tower in towers.values() if tower["size"] == 224 and set(FOLLOWED) <= set(tower["rows"])]
    shown.sort(
        key=lambda tower: [block["region"] for block in tower["chosen"]["int8 trt10.3"]["blocks"]].index("merge")
    )
    if not shown:
        return
    figure = new_figure(max(760, 560 * len(shown)), 900)
    panels = figure.subplots(2, len(shown), squeeze=False, sharey="row", height_ratios=(2, 3))
    for (alone, together), tower in zip(panels.T, shown):
        _draw_alone(alone, tower)
        _draw_together(together, tower)
    panels[0, 0].set_ylabel("points lost by the block alone\n(judging pictures)")
    panels[1, 0].set_ylabel("relative error after the block\n(held-out pictures, mean)")
    figure.legend(
        *panels[1, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2 * len(shown),
        fontsize=8,
        frameon=False,
    )
    save_chart(figure, path)


def _draw_alone(panel, tower: dict) -> None:
    """Two bars a block: the form for TensorRT and the form for ONNX Runtime; red where it was left as it is."""
    for offset, target in ((-0.2, "trt10.3"), (0.2, "ort-cpu")):
        blocks = tower["chosen"][f"int8 {target}"]["blocks"]
        colours = [(GOOD if target == "trt10.3" else QUIET) if block["eight_bit"] else BAD for block in blocks]
        places = [place + offset for place in range(len(blocks))]
        panel.bar(places, [block["points"] for block in blocks], 0.38, color=colours)
    panel.set_title(
        f"merged at {tower['depth']}\ngreen: for TensorRT; grey: for ONNX Runtime; red: not in eight bits", fontsize=9
    )
    panel.set_xticks(range(len(blocks)), [_label(block["name"]) for block in blocks], rotation=90, fontsize=8)


def _draw_together(panel, tower: dict) -> None:
    for index, (row, label) in enumerate(FOLLOWED.items()):
        errors = tower["rows"][row]["by_block"]
        colour = SERIES_COLOURS[index]
        drawn = [error or math.nan for error in errors.values()]  # no error at all has no place on a logarithmic axis
        panel.plot(range(len(errors)), drawn, color=colour, marker=".", linewidth=1, label=label)
    panel.set_yscale("log")
    panel.grid(axis="y", linewidth=0.4)
    panel.set_xticks(range(len(errors)), [_label(name) for name in errors], rotation=90, fontsize=8)


def _label(boundary: str) -> str:
    """``layer 3`` of ``vision_model.encoder.encoder.layer.3``, ``merge``, ``projector``, ``embeddings``."""
    parts = boundary.split(".")
    if "compressors" in parts:
        return "merge" if parts[-1] != "residual" else "residual"
    return f"layer {parts[-1]}" if parts[-1].isdigit() else parts[-1]
