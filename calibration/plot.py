"""Error and time by block as one picture, drawn with PIL alone."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from .blocks.block_errors import FeatureError
from .blocks.choice import BlockTime
from .report import short_name

_WIDTH, _PANEL, _MARGIN = 1280, 230, 70  # pixels
_CHOSEN, _LEFT_OUT, _BASE, _INK = (20, 120, 60), (200, 60, 40), (170, 170, 180), (40, 40, 45)


def draw_blocks(
    errors: Mapping[str, FeatureError],
    times: Mapping[str, BlockTime] | None,
    chosen: tuple[str, ...],
    *,
    max_drop: float,
    merge_at: int | None,
    title: str,
) -> Image.Image:
    """Two panels over one row of blocks: points lost by each alone, and its milliseconds before and after.

    Args:
        merge_at: the position of the merge among the blocks: a line stands there.
    """
    names, font, small = list(errors), ImageFont.load_default(16), ImageFont.load_default(12)
    labels = int(max(small.getlength(short_name(name)) for name in names)) + 12
    height = 30 + _PANEL * (2 if times else 1) + labels + 50
    image = Image.new("RGB", (_WIDTH, height), "white")
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN, 14), title, _INK, font)
    step = (_WIDTH - 2 * _MARGIN) / len(names)
    left = lambda index: _MARGIN + index * step
    points = [errors[name].points for name in names]
    colours = [_CHOSEN if name in chosen else _LEFT_OUT for name in names]
    top = 70
    highest = max(*points, 1e-6)
    _axis(pen, small, top, "points lost by the block alone", highest)
    for index, value in enumerate(points):
        _bar(pen, left(index) + 0.15 * step, 0.7 * step, top, value / highest, colours[index])
    if max_drop <= highest:
        y = top + (_PANEL - 50) * (1 - max_drop / highest)
        pen.line((_MARGIN, y, _WIDTH - _MARGIN, y), _LEFT_OUT, 1)
        pen.text((_WIDTH - _MARGIN - 90, y - 15), f"budget {max_drop:g}", _LEFT_OUT, small)
    if times:
        top += _PANEL
        longest = max(max(time.base, time.eight_bit) for time in times.values())
        _axis(pen, small, top, "milliseconds: grey in the base precision, coloured in eight bits", longest)
        for index, name in enumerate(names):
            _bar(pen, left(index) + 0.1 * step, 0.4 * step, top, times[name].base / longest, _BASE)
            _bar(pen, left(index) + 0.5 * step, 0.4 * step, top, times[name].eight_bit / longest, colours[index])
    bottom = top + _PANEL - 50
    if merge_at is not None:
        x = left(merge_at)
        pen.line((x, 60, x, bottom), (120, 120, 130), 1)
        pen.text((x + 4, 44), "merge", (120, 120, 130), small)
    for index, name in enumerate(names):
        _label(image, short_name(name), labels, left(index) + step / 2, bottom + 6, small)
    legend = f"green: eight bits ({len(chosen)} of {len(names)} blocks); red: left as it is"
    pen.text((_MARGIN, height - 30), legend, _INK, small)
    return image


def _axis(pen: ImageDraw.ImageDraw, font, top: int, text: str, highest: float) -> None:
    bottom = top + _PANEL - 50
    pen.text((_MARGIN, top - 18), text, _INK, font)
    pen.line((_MARGIN, bottom, _WIDTH - _MARGIN, bottom), _INK, 1)
    pen.text((8, top - 6), f"{highest:.3g}", _INK, font)
    pen.text((8, bottom - 8), "0", _INK, font)


def _bar(pen: ImageDraw.ImageDraw, x: float, width: float, top: int, share: float, colour) -> None:
    bottom = top + _PANEL - 50
    pen.rectangle((x, bottom - max(1.0, share * (_PANEL - 50)), x + width, bottom), fill=colour)


def _label(image: Image.Image, text: str, length: int, x: float, y: float, font) -> None:
    """``text``, upright, its end at the top."""
    strip = Image.new("RGB", (length, 16), "white")
    ImageDraw.Draw(strip).text((length - font.getlength(text) - 4, 0), text, _INK, font)
    image.paste(strip.rotate(90, expand=True), (int(x) - 8, int(y)))
