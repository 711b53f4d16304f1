"""Two kinds of pages with the same questions: 4 x 4 cells as large as a merge's window, one of 24 symbols in each.

A *letter* fills its cell: its four patches have the same answer, and their average is as good as they are. An
*arrangement* is four small signs, one a patch, and which symbol it is depends on their order alone: all 24 have the
same signs, so that the average of what the patches hold by themselves says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations

import numpy as np
import torch
from ordering.pages import CELL, LETTERS, draw_pages, letter_masks
from ordering.pretraining import cell_of_patch, letters_of_patches
from ordering.reader import DrawPages
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


def signs_of_patches(symbols: torch.Tensor) -> torch.Tensor:
    """Which of :data:`SIGNS` stands in each patch: symbols int64 [B, PER_PAGE] to int64 [B, GRID²]."""
    cells = cell_of_patch()
    side = int(len(cells) ** 0.5)
    rows, columns = torch.arange(len(cells)) // side, torch.arange(len(cells)) % side
    orders = torch.tensor([[SIGNS.index(sign) for sign in order] for order in permutations(SIGNS)])  # [24, 4]
    return orders[symbols[:, cells], 2 * (rows % 2) + columns % 2]


@dataclass(frozen=True)
class Task:
    """One kind of pages.

    Attributes:
        draw: pixels and symbols, by :data:`ordering.reader.DrawPages`.
        patch_answers: what the encoder is taught to say of each patch before it meets a language model.
    """

    draw: DrawPages
    patch_answers: Callable[[torch.Tensor], torch.Tensor]


TASKS: Mapping[str, Task] = {
    "letters": Task(partial(draw_pages, symbols=letter_masks), letters_of_patches),
    "arrangements": Task(partial(draw_pages, symbols=arrangement_masks), signs_of_patches),
}

assert len(list(permutations(SIGNS))) == len(LETTERS), "an arrangement for each letter"
