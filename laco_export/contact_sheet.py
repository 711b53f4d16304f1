"""Pictures with what was asked and answered about them on one sheet, drawn by PIL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIDE, MARGIN = 168, 12
_QUESTION, _TEXT = 43, 47  # pixels of height: the question's two lines, two lines of the text
_RIGHT, _WRONG, _INK, _FRAME, _PAPER = (20, 120, 50), (190, 30, 30), (40, 40, 45), (200, 200, 200), (250, 250, 248)


@dataclass(frozen=True)
class SheetCell:
    """One place of a sheet.

    Attributes:
        pictures: side by side; each is squeezed to a square.
        question: in small letters below, two lines of it at most.
        text: in larger letters below that; each of its lines takes two on the sheet at most.
        is_right: whether the text is green or red.
    """

    pictures: Sequence[Image.Image]
    question: str
    text: str
    is_right: bool


def answer_cell(picture: Image.Image, question: str, answer: str, truth: str) -> SheetCell:
    """An answer beside the right one, which is told where they differ."""
    text = answer if answer == truth else f"{answer} (truth: {truth})"
    return SheetCell([picture], question, text, answer == truth)


def draw_sheet(cells: Sequence[SheetCell], *, columns: int = 6) -> Image.Image:
    """All cells in reading order, each of the size that the one with the most pictures or lines needs."""
    widest = max((len(cell.pictures) for cell in cells), default=1)
    lines = max((1 + cell.text.count("\n") for cell in cells), default=1)
    width, height = widest * SIDE + MARGIN, SIDE + _QUESTION + lines * _TEXT + MARGIN
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), _PAPER)
    for index, cell in enumerate(cells):
        _draw_cell(sheet, cell, MARGIN + index % columns * width, MARGIN + index // columns * height, width - MARGIN)
    return sheet


def _draw_cell(sheet: Image.Image, cell: SheetCell, left: int, top: int, width: int) -> None:
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(13), ImageFont.load_default(17)
    for place, picture in enumerate(cell.pictures):
        x = left + place * SIDE
        sheet.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, top))
        pen.rectangle((x, top, x + SIDE - 1, top + SIDE - 1), outline=_FRAME)
    question = wrap(cell.question, pen, small, width)
    pen.multiline_text((left, top + SIDE + 5), "\n".join(question[:2]), _INK, small, spacing=2)
    text = [line for part in cell.text.split("\n") for line in wrap(part, pen, large, width)[:2]]
    colour = _RIGHT if cell.is_right else _WRONG
    pen.multiline_text((left, top + SIDE + _QUESTION), "\n".join(text), colour, large, spacing=2)


def wrap(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
