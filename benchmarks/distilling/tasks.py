"""Two kinds of pages with the same questions: 4 x 4 cells as large as a merge's window, one of 24 symbols in each.

A *letter* fills its cell: its four patches have the same answer, and their average is as good as they are. An
*arrangement* is four small signs, one a patch, and which symbol it is depends on their order alone: all 24 have the
same signs, so that the average of what the patches hold by themselves says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import permutations

import numpy as np
from ordering.pages import CELL, LETTERS, draw_pages, letter_masks
from PIL import Image, ImageDraw, ImageFont

SIGNS = "XOTL"
_VARIANTS = 24  # drawings of each arrangement, as letters have
_FONT_SIZES = (13, 15)
_TURN = 8  # degrees, to either side


@cache
def arrangement_masks() -> np.ndarray:
    """How much ink a pixel holds: float32 [24, variants, CELL, CELL]; the same for every seed."""
    rng = np.random.default_rng(0)
    orders, side = list(permutations(SIGNS)), CELL // 2
    masks = np.zeros((len(orders), _VARIANTS, CELL, CELL), np.float32)
    for index, order in enumerate(orders):
        for variant in range(_VARIANTS):
            for place, sign in enumerate(order):
                top, left = (side * part for part in divmod(place, 2))
                masks[index, variant, top : top + side, left : left + side] = _drawn(sign, side, rng)
    return masks


def _drawn(sign: str, side: int, rng: np.random.Generator) -> np.ndarray:
    image = Image.new("L", (side, side))
    font = ImageFont.load_default(int(rng.integers(_FONT_SIZES[0], _FONT_SIZES[1] + 1)))
    ImageDraw.Draw(image).text((side / 2, side / 2), sign, 255, font, anchor="mm")
    turned = image.rotate(float(rng.uniform(-_TURN, _TURN)), Image.Resampling.BILINEAR)
    return np.asarray(turned, np.float32) / 255


TASKS: Mapping[str, Callable] = {
    "letters": partial(draw_pages, symbols=letter_masks),
    "arrangements": partial(draw_pages, symbols=arrangement_masks),
}
"""By name, as :data:`ordering.reader.DrawPages`."""

assert len(list(permutations(SIGNS))) == len(LETTERS), "an arrangement for each letter"
