"""Witnesses: what both sides of every other comparison compute by one function, computed once more without it.

A picture that is prepared wrongly is prepared wrongly for PyTorch too, and tokens that are placed wrongly are placed
wrongly in the reference: no comparison between the two can see it. A witness shares no function with what it watches.

- :mod:`.independent_check`: two computations of one tensor, and the error where they differ;
- :mod:`.pixel_values`: pictures and tiles, by transformers' own image processors;
- :mod:`.merged_windows`: the merge, by its definition in NumPy;
- :mod:`.packed_tokens`: the tiles' tokens in their order, by their place in the picture;
- :mod:`.placed_tokens`: token ids and embeddings of prompts with pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..golden_pictures import PreparedPictures
from ..proof import Reference
from .independent_check import IndependentCheck
from .merged_windows import check_merged_windows
from .packed_tokens import check_packed_tokens
from .pixel_values import check_pixel_values, check_tiles
from .placed_tokens import check_placed_tokens

if TYPE_CHECKING:
    from PIL import Image

    from ...models import LacoForConditionalGeneration
    from ...tiling import Tiling


def check_prepared_pictures(
    checkpoint: Path, images: Sequence[tuple[str, Image.Image]], prepared: PreparedPictures, tiling: Tiling | None
) -> list[IndependentCheck]:
    """The witnesses of the golden pictures, before PyTorch sees them.

    Args:
        images: names and pictures before they were resized.

    Raises:
        ExportError: one disagrees.
    """
    checks = [check_pixel_values(checkpoint, images, prepared)]
    if tiling is not None:
        checks.append(check_tiles(checkpoint, prepared, tiling))
    return checks


def check_visual_tokens(model: LacoForConditionalGeneration, reference: Reference) -> list[IndependentCheck]:
    """The witnesses of what becomes of pictures inside the model, before its language model reads them
    (:func:`check_placed_tokens`).

    Raises:
        ExportError: one disagrees.
    """
    merged = check_merged_windows(reference.tower, reference.expected)
    return [*([] if merged is None else [merged]), *check_packed_tokens(model)]


__all__ = ["IndependentCheck", "check_placed_tokens", "check_prepared_pictures", "check_visual_tokens"]
