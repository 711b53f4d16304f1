"""Pictures with their questions and answers on one sheet, drawn by PIL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS, SIDE, MARGIN, TEXT = 6, 168, 12, 90
RIGHT, WRONG, INK, PAPER = (20, 120, 50), (190, 30, 30), (40, 40, 45), (250, 250, 248)


def draw_sheet(entries: Sequence[tuple[Path, str, str, str]]) -> Image.Image:
    """One cell per ``(picture file, question, answer, truth)``; a wrong answer is red with the truth behind it."""
    rows = -(-len(entries) // COLUMNS)
    cell = (SIDE + MARGIN, SIDE + TEXT + MARGIN)
    sheet = Image.new("RGB", (COLUMNS * cell[0] + MARGIN, rows * cell[1] + MARGIN), PAPER)
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(13), ImageFont.load_default(17)
    for index, (path, question, answer, truth) in enumerate(entries):
        x, y = MARGIN + index % COLUMNS * cell[0], MARGIN + index // COLUMNS * cell[1]
        with Image.open(path) as picture:
            sheet.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=(200, 200, 200))
        lines = wrap(question, pen, small, SIDE)
        pen.multiline_text((x, y + SIDE + 5), "\n".join(lines[:2]), INK, small, spacing=2)
        text = answer if answer == truth else f"{answer} (truth: {truth})"
        lines = wrap(text, pen, large, SIDE)
        pen.multiline_text(
            (x, y + SIDE + 43), "\n".join(lines[:2]), RIGHT if answer == truth else WRONG, large, spacing=2
        )
    return sheet


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
