"""A LaCo checkpoint from an encoder folder and a language-model folder, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..conversation import IMAGE_TOKEN
from . import checkpoint
from .encoders.loading import load_encoder
from .language_models import load_language_model
from .modeling import LacoForConditionalGeneration
from .processing import LacoProcessor


def initialize(
    encoder: Path | str,
    language_model: Path | str,
    output: Path | str,
    *,
    at: str | Sequence[str] = "1/2",
    method: str | None = "laco",
    dtype: torch.dtype | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
    **options,
) -> LacoForConditionalGeneration:
    """Write a checkpoint whose encoder and language model are pretrained and whose merge and projector are not.

    Args:
        encoder: a folder that :func:`load_encoder` reads.
        language_model: a transformers causal language model with its tokenizer, which is made ready for pictures
            (:mod:`.vocabulary`).
        output: the checkpoint folder to write.
        at, method, options: see :meth:`LacoForConditionalGeneration.from_parts`.
        dtype: of all parts; None takes the language model's.
        say: called with each sentence about what the tokenizer needed.

    Raises:
        CheckpointError: a folder is of another architecture or damaged, or its tokenizer cannot be made ready.
    """
    llm, vocabulary = load_language_model(Path(language_model), dtype)
    tokenizer = vocabulary.tokenizer
    for change in vocabulary.changes if say else ():
        say(change)
    vision = load_encoder(encoder, dtype=llm.dtype)
    model = LacoForConditionalGeneration.from_parts(
        vision, llm, at=at, method=method, image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), **options
    ).to(llm.dtype)
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), output, force=force)
    return model
