"""The prices as a table, as a JSON document, and as sheets of the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from laco_export.contact_sheet import SheetCell, draw_sheet
from laco_export.merge_path import DepthPath
from laco_export.models import LacoProcessor
from laco_export.preprocessing import ImagePreprocessing

from .measurement import DepthPrice, SamplePrice
from .samples import PriceSample, PriceSamples
from .subjects import Subjects

WORST = 9
"""Pictures on a sheet."""
_COLUMNS = 3
_HOT = np.array([220, 30, 30], np.float32)
_MOST_HEAT = 0.85  # of the colour that covers a token whose error is as large as its target
_MEANS = ("relative_error", "cosine", "same_answer", "same_first_token", "tokens_kept")


def price_table(rows: Sequence[DepthPrice], *, is_trained: bool):
    """A Rich table, a line a depth."""
    from rich.table import Table

    reference, merged = rows[0], rows[1:]
    what = "trained merges" if is_trained else "averaging merges, nothing trained"
    table = Table(
        title=f"{reference.tokens} tokens a tile become {merged[0].tokens}: {what}",
        title_justify="left",
        caption=f"{len(merged[0].samples)} samples; FLOPs and time: of a tile's encode ({_milliseconds(reference):.1f} "
        "ms without merges); relative error and cosine: of the projected features; answers: greedy, against those "
        "without merges; tokens kept: the share of an answer before the first other token",
        caption_justify="left",
    )
    table.add_column("depth", no_wrap=True)
    for heading in ("FLOPs", "time", "error", "cosine", "same answer", "same first token", "tokens kept"):
        table.add_column(heading, justify="right", width=max(5, *map(len, heading.split())))  # 80 columns hold all
    for row in rows:
        name = row.at if row.path is None else f"{row.at}{_between(row)}({_blocks(row)})"
        ratios = (f"{row.flops / reference.flops:.3f}", f"{_milliseconds(row) / _milliseconds(reference):.3f}")
        likeness = ("",) * len(_MEANS)
        if row.samples:
            shares = (f"{row.mean(measure):.0%}" for measure in _MEANS[2:])
            likeness = (f"{row.mean('relative_error'):.3f}", f"{row.mean('cosine'):.3f}", *shares)
        table.add_row(name, *ratios, *likeness)
    return table


def _between(row: DepthPrice) -> str:
    """A path's blocks take a line of their own, for which the figures would lose digits."""
    return "\n" if len(row.path.blocks) > 1 else " "


def _blocks(row: DepthPrice) -> str:
    """``block 12``, or ``blocks 6+18``."""
    return f"block{'s' * (len(row.path.blocks) > 1)} {'+'.join(map(str, row.path.blocks))}"


def _milliseconds(row: DepthPrice) -> float:
    return row.encode["milliseconds"]


def price_document(subjects: Subjects, samples: PriceSamples, rows: Sequence[DepthPrice]) -> dict:
    """Everything that was measured, for ``--json`` and ``price.json``: ratios are over the row without merges."""
    reference = rows[0]
    return {
        "sha256": subjects.sha256,
        "trained": subjects.is_trained,
        "samples": len(samples),
        "broken": samples.broken,
        "flops": reference.flops,
        "tokens_per_tile": reference.tokens,
        "encode": dict(reference.encode),
        "depths": [_depth_entry(row, reference) for row in rows[1:]],
    }


def _depth_entry(row: DepthPrice, reference: DepthPrice) -> dict:
    return {
        "at": row.at,
        "blocks": list(row.path.blocks),
        "ratios": list(row.path.ratios),
        "tokens_per_tile": row.tokens,
        "flops_ratio": row.flops / reference.flops,
        "encode_ratio": _milliseconds(row) / _milliseconds(reference),
        "encode": dict(row.encode),
        **{measure: row.mean(measure) for measure in _MEANS},
        "samples": [sample.to_dict() for sample in row.samples],
    }


def sheet_name(row: DepthPrice) -> str:
    """``worst-at1_2.png``."""
    return f"worst-at{DepthPath.parse(row.at).slug}.png"


def worst_sheet(row: DepthPrice, samples: PriceSamples, subjects: Subjects) -> Image.Image:
    """The samples with the largest feature errors: the tile, where in it the error lies, and both answers."""
    places = {id(priced): place for place, priced in enumerate(row.samples)}  # names may occur twice
    subjects.at_depth(row.at)
    cells = [_cell(priced, samples[places[id(priced)]], subjects) for priced in row.worst(WORST)]
    return draw_sheet(cells, columns=_COLUMNS)


def _cell(priced: SamplePrice, sample: PriceSample, subjects: Subjects) -> SheetCell:
    processor = subjects.reference_processor
    inputs = processor(images=sample.pictures, text=sample.turns[-1][1], return_tensors="np")
    tile = shown_tile(inputs["pixel_values"][priced.worst_tile], processor)
    heat = error_map(tile, np.asarray(priced.token_errors), subjects.merged.token_grid)
    text = f"before: {priced.before}\nafter: {priced.after}"
    return SheetCell(
        [tile, heat], f"error {priced.relative_error:.3f} · {priced.question}", text, is_right=priced.same_answer
    )


def shown_tile(pixel_values: np.ndarray, processor: LacoProcessor) -> Image.Image:
    """A tile as the encoder sees it: ``[3, H, W]``, normalised, to a picture."""
    preprocessing: ImagePreprocessing = processor.image_processor.preprocessing
    values = pixel_values.transpose(1, 2, 0) * np.asarray(preprocessing.std) + np.asarray(preprocessing.mean)
    return Image.fromarray(np.uint8(np.clip(np.rint(255 * values), 0, 255)))


def error_map(tile: Image.Image, errors: np.ndarray, grid: tuple[int, int]) -> Image.Image:
    """The tile in grey, redder where the error is.

    Args:
        errors: of its tokens, ``[H·W]``; 1 where the difference is as large as a token is.
        grid: their rows and columns.
    """
    heat = Image.fromarray(np.float32(np.clip(errors, 0, 1)).reshape(grid)).resize(tile.size, Image.Resampling.NEAREST)
    cover = _MOST_HEAT * np.asarray(heat)[..., None]  # [H, W, 1]
    grey = np.asarray(tile.convert("L"), np.float32)[..., None]
    return Image.fromarray(np.uint8((1 - cover) * grey + cover * _HOT))
