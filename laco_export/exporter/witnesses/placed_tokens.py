"""Prompts with pictures: their token ids from text that is written out here, their embeddings row by row.

ChatML is written out; in another chat format the text is what jinja makes of the checkpoint's own chat template.

What is watched are the conversation's text, the processor, and the model's placing of visual tokens: the reference that
a bundle's answers are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...chat_format import CHATML
from ...conversation import IMAGE_MARK, question_turn, render
from ...layout_rules import SINGLE_TILE, ImageSize
from .independent_check import IndependentCheck, compare_cases
from .packed_tokens import mosaic, numbered_features

if TYPE_CHECKING:
    from ...models import LacoForConditionalGeneration, LacoProcessor

_QUESTION = "What is this?"
_PICTURE_LINE = f"{IMAGE_MARK}\n"

_BEFORE = """<|im_start|>system
You are a helpful assistant.<|im_end|>
<|im_start|>user
"""
_AFTER = """What is this?<|im_end|>
<|im_start|>assistant
"""


def check_placed_tokens(model: LacoForConditionalGeneration, processor: LacoProcessor) -> list[IndependentCheck]:
    """Compare prompts with no, one and two pictures, as many as its context holds: the ids, and what the language model
    reads.

    Raises:
        ExportError: they differ.
    """
    ids, embeddings = [], []
    for case, sizes in _prompts(model):
        features = numbered_features(model, sizes)
        pictures = [_packed(model, *picture) for picture in zip(features, sizes)]
        expected_ids = _ids(processor, [len(tokens) for tokens in pictures])
        if len(expected_ids) > model.config.text_config.max_position_embeddings:
            continue  # nor could it be asked
        inputs = _processed(processor, sizes)
        ids.append((case, inputs["input_ids"][0].numpy(), expected_ids))
        if np.array_equal(ids[-1][1], expected_ids):
            rows = model.get_input_embeddings().weight.detach()[expected_ids].float().numpy().copy()
            rows[expected_ids == model.config.image_token_id] = np.concatenate([rows[:0], *pictures])
            embeddings.append((case, _read_by_the_language_model(model, inputs, features), rows))
    return [
        compare_cases("token ids", f"the conversation's text {_written_by(processor)}", ids, rounding=0),
        compare_cases("the language model's inputs", "token ids and visual tokens one after another", embeddings),
    ]


def _prompts(model: LacoForConditionalGeneration) -> Iterator[tuple[str, list[ImageSize]]]:
    alone = SINGLE_TILE
    if (tiling := model.config.tiling_config) is not None:
        alone = (tiling.tile, 2 * tiling.tile)
    yield "a question alone", []
    yield "a question about one picture", [alone]
    yield "a question about two pictures", [alone if model.config.layout_rules.tiles_each else SINGLE_TILE] * 2


def _packed(model: LacoForConditionalGeneration, features: np.ndarray, size: ImageSize) -> np.ndarray:
    newline = None if model.image_newline is None else model.image_newline.detach().float().numpy()
    config = model.config
    tiling, pooling = config.tiling_config, config.video_pooling
    return mosaic(features, size, model.token_grid, tiling, newline, pooling, config.token_layout)


def _written_by(processor: LacoProcessor) -> str:
    return "written out" if processor.chat_format == CHATML else "as its chat template writes it"


def _ids(processor: LacoProcessor, lengths: Sequence[int]) -> np.ndarray:
    """int64 ``[T]``: the pictures before the question, each of so many tokens."""
    chat_format, question = processor.chat_format, f"{_PICTURE_LINE * len(lengths)}{_QUESTION}"
    if chat_format == CHATML:
        text = f"{_BEFORE}{_PICTURE_LINE * len(lengths)}{_AFTER}"
    else:
        from ...models.chat_template import TemplateRenderer

        write = TemplateRenderer(processor.chat_template, processor.tokenizer, chat_format.image_token)
        text = write([("user", question)])
    shown = f"{chat_format.image_before}{chat_format.image_token}{chat_format.image_after}"
    text = text.replace(IMAGE_MARK, shown)
    begins = bool(chat_format.begin_token)
    ids = np.asarray(processor.tokenizer(text, add_special_tokens=begins).input_ids, np.int64)
    counts = np.ones(len(ids), np.int64)
    counts[ids == processor.image_token_id] = lengths
    return np.repeat(ids, counts)


def _processed(processor: LacoProcessor, sizes: Sequence[ImageSize]):
    """What the processor makes of the prompt, of black pictures."""
    side = 16  # of a picture that is one tile whatever its size
    images = [Image.new("RGB", (width or side, height or side)) for height, width in sizes]
    asked = [question_turn(_QUESTION, len(images))]
    text = render(asked, add_generation_prompt=True, chat_format=processor.chat_format)
    return processor(images=images or None, text=text, return_tensors="pt")


class _Read(Exception):
    """The language model was reached."""


def _read_by_the_language_model(model: LacoForConditionalGeneration, inputs, features: list[np.ndarray]) -> np.ndarray:
    """float32 ``[T, D]``: the embeddings of a prompt, with ``features`` in the place of the tower's."""
    import torch

    read = []

    def stop(module, arguments, named) -> None:
        read.append(named["inputs_embeds"][0].detach().float().numpy())
        raise _Read

    hook = model.language_model.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad(), _given_features(model, features):
            model(**inputs)
    except _Read:
        pass
    finally:
        hook.remove()
    return read[0]


@contextmanager
def _given_features(model: LacoForConditionalGeneration, features: list[np.ndarray]) -> Iterator[None]:
    import torch

    model.get_image_features = lambda pixel_values: torch.from_numpy(np.concatenate(features))
    try:
        yield
    finally:
        del model.get_image_features
