"""What is asked about a page, and how many letters a model reads.

The prompt holds the page's tokens, then for each cell a token that names the cell and the letter that stands there;
the letters alone count for the loss. Letters are random, so that those before tell nothing about the next: the share
of letters that are right in one forward pass is the share that a greedy answer would have right.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from laco_export.models import LacoForConditionalGeneration
from laco_training.counted_positions import keep_counted_positions
from laco_training.data import IGNORED

from .pages import LETTERS, PER_PAGE, draw_pages

PAD, IMAGE = 0, 1
FIRST_LETTER = 2
FIRST_CELL = FIRST_LETTER + len(LETTERS)
VOCABULARY = FIRST_CELL + PER_PAGE
BATCH = 16  # pages of a step
DrawPages = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""As :func:`.pages.draw_pages`, which may be drawn with other symbols."""
_TEST_PAGES, _TEST_KEY = 256, 999_999  # 4,096 letters: one standard error is below 0.8 of a percent


def batch_of(pixels: torch.Tensor | None, letters: torch.Tensor, tokens_per_page: int) -> dict[str, torch.Tensor]:
    """The model's inputs with labels for pages [B, 3, SIZE, SIZE] and letters [B, PER_PAGE]; None: without pages."""
    rows = len(letters)
    cells = (FIRST_CELL + torch.arange(PER_PAGE)).expand(rows, -1)
    asked = torch.stack((cells, FIRST_LETTER + letters), dim=2).flatten(1)  # [B, 2 PER_PAGE]: cell, letter, cell, …
    labels = asked.clone()
    labels[:, ::2] = IGNORED
    image = torch.full((rows, tokens_per_page), IMAGE)
    return {
        "pixel_values": pixels,
        "input_ids": torch.cat((image, asked), dim=1),
        "labels": torch.cat((torch.full_like(image, IGNORED), labels), dim=1),
    }


def answer(model: LacoForConditionalGeneration, batch: dict[str, torch.Tensor]):
    """The model's outputs at the positions that count: loss, and logits [B, PER_PAGE, VOCABULARY]."""
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    return model(**{**batch, **keep_counted_positions(batch["labels"])}, use_cache=False)


@torch.inference_mode()
def accuracy(
    model: LacoForConditionalGeneration, seed: int, *, shuffled: bool = False, draw: DrawPages = draw_pages
) -> float:
    """Share of the letters of the test pages that the model reads; with ``shuffled`` each page is another one's."""
    model.eval()
    pixels, letters = draw(_TEST_PAGES, seed, _TEST_KEY)
    if shuffled:
        pixels = pixels.roll(1, 0)
    right = 0
    for start in range(0, len(pixels), 64):
        part = slice(start, start + 64)
        logits = answer(model, batch_of(pixels[part], letters[part], model.tokens_per_image)).logits
        right += int((logits.argmax(-1).cpu() - FIRST_LETTER == letters[part]).sum())
    model.train()
    return right / letters.numel()
