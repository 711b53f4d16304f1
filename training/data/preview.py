"""A sample as the model will read it, with what it learns from in colour, for ``--dry-run``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from laco_export.layout_rules import ONE_TILE, SINGLE_TILE, VIDEO_END, VIDEO_FRAME

from .errors import DataError
from .samples import IGNORED

if TYPE_CHECKING:
    from rich.text import Text

    from .dataset import ConversationDataset

COUNTED_STYLE, SILENT_STYLE, PICTURE_STYLE = "bold green", "dim", "magenta"


def preview(dataset: ConversationDataset) -> Text:
    """The decoded tokens of the first sample (or of what stands in its place): green ones count for the loss.

    A run of image tokens is folded to its number, and a line above tells pictures, tiles and tokens.

    Raises:
        DataError: neither the sample nor another one can be used.
    """
    from rich.text import Text

    sample = dataset[0]
    notes = sample["notes"]
    if not notes.complete:
        first = notes.broken[0]
        raise DataError(f"sample '{first.id}' of '{first.file}' cannot be used: {first.reason}")
    tokens, labels = sample["input_ids"].tolist(), sample["labels"].tolist()
    counted = sum(label != IGNORED for label in labels)
    text = Text()
    text.append(f"sample '{notes.ids[0]}': {len(tokens)} tokens, ")
    text.append(f"{counted} count for the loss", style=COUNTED_STYLE)
    text.append(f"{_shown(sample)}\n\n")
    image = dataset.encoder.processor.image_token_id
    for (is_image, counts), run in groupby(
        zip(tokens, labels), key=lambda pair: (pair[0] == image, pair[1] != IGNORED)
    ):
        ids = [token for token, _ in run]
        if is_image:
            text.append(f"[{len(ids)} image tokens]", style=PICTURE_STYLE)
        else:
            text.append(dataset.tokenizer.decode(ids), style=COUNTED_STYLE if counts else SILENT_STYLE)
    return text


def _shown(sample: dict) -> str:
    if "pixel_values" not in sample:
        return "; no picture"
    sizes = [tuple(size) for size in sample["image_sizes"].tolist()]
    frames, single = sizes.count(VIDEO_FRAME) + sizes.count(VIDEO_END), sizes.count(SINGLE_TILE)
    words = [f"{frames} video frames"] if frames else []
    words += [f"{single} picture{'s' if single > 1 else ''} of one tile"] if single else []
    words += [f"a picture of {width} x {height} pixels" for height, width in sizes if (height, width) not in ONE_TILE]
    tiles = len(sample["pixel_values"])
    return f"; {', '.join(words)}: {tiles} tile{'s' if tiles > 1 else ''}"
