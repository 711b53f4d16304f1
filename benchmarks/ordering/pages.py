"""Pages of glyphs to read: 4 x 4 letters, each about 2 x 2 patches large, jittered off the grid, turned, in noise.

Sample i of step s depends on the seed and on s alone, so every arm sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from laco_training.tiny.encoder_pretraining import GRID, PATCH
from laco_training.tiny.scene import SIZE

LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ34"  # without I, J, O, Q, which this size and noise would leave to guessing
CELL = 2 * PATCH  # pixels
CELLS = GRID // 2  # a side
PER_PAGE = CELLS * CELLS
_FONT_SIZES = (21, 26)
_TURN = 8  # degrees, to either side
_JITTER = 3  # pixels off the cell's middle: a letter straddles the 2 x 2 windows that are merged
_VARIANTS = 24  # drawings of each letter
_CONTRAST = (0.45, 1.0)
NOISE = 0.25
"""Standard deviation beside a contrast of 0.45 to 1: keeps the full-token reader below its ceiling."""

DRAWING = {"noise": NOISE, "contrast": list(_CONTRAST), "shift_pixels": _JITTER, "turn_degrees": _TURN}
"""What makes pages easy or hard, for a study's record."""


@cache
def letter_masks() -> np.ndarray:
    """How much ink a pixel of a drawing holds: float32 [letters, variants, CELL, CELL]; the same for every seed."""
    rng = np.random.default_rng(0)
    masks = np.zeros((len(LETTERS), _VARIANTS, CELL, CELL), np.float32)
    for index, letter in enumerate(LETTERS):
        for variant in range(_VARIANTS):
            image = Image.new("L", (CELL, CELL))
            font = ImageFont.load_default(int(rng.integers(_FONT_SIZES[0], _FONT_SIZES[1] + 1)))
            ImageDraw.Draw(image).text((CELL / 2, CELL / 2), letter, 255, font, anchor="mm")
            turned = image.rotate(float(rng.uniform(-_TURN, _TURN)), Image.Resampling.BILINEAR)
            masks[index, variant] = np.asarray(turned, np.float32) / 255
    return masks


def draw_pages(
    count: int, *key: int, symbols: Callable[[], np.ndarray] = letter_masks
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels float32 [count, 3, SIZE, SIZE], normalised already, and letters int64 [count, PER_PAGE].

    Args:
        key: whole numbers that the drawing depends on, such as seed, part and step.
        symbols: what stands for each of :data:`LETTERS`: float32 [letters, variants, CELL, CELL], ink of 0 to 1.
    """
    rng = np.random.default_rng(key)
    masks = symbols()
    letters = rng.integers(0, len(LETTERS), (count, PER_PAGE))
    drawn = masks[letters, rng.integers(0, _VARIANTS, letters.shape)]  # [count, PER_PAGE, CELL, CELL]
    shifts = rng.integers(-_JITTER, _JITTER + 1, (count, PER_PAGE, 2))
    paper = np.zeros((count, SIZE + 2 * _JITTER, SIZE + 2 * _JITTER), np.float32)
    for cell in range(PER_PAGE):
        top, left = (CELL * place + _JITTER for place in divmod(cell, CELLS))
        for page in range(count):
            y, x = top + shifts[page, cell, 0], left + shifts[page, cell, 1]
            np.maximum(
                paper[page, y : y + CELL, x : x + CELL], drawn[page, cell], out=paper[page, y : y + CELL, x : x + CELL]
            )
    paper = paper[:, _JITTER:-_JITTER, _JITTER:-_JITTER]
    ink = rng.uniform(*_CONTRAST, (count, 1, 1)) * rng.choice((-1, 1), (count, 1, 1))
    pixels = 2 * ink * paper - ink + rng.normal(0, NOISE, paper.shape)  # ink on the opposite ground
    return torch.from_numpy(np.repeat(pixels[:, None].astype(np.float32), 3, axis=1)), torch.from_numpy(letters)


def page_picture(pixels: torch.Tensor) -> Image.Image:
    """A page [3, SIZE, SIZE] to look at."""
    grey = ((pixels[0] + 2) / 4 * 255).clamp(0, 255).byte().numpy()
    return Image.fromarray(grey)
