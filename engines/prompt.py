"""From picture files and a question to what the model reads: pixel values and token ids. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from laco_export.bundle import Bundle
from laco_export.conversation import expand_image_tokens, question_turn, render
from laco_export.errors import BundleError, UsageError
from laco_export.preprocessing import MAX_PIXELS, load_image
from laco_export.tiling import SINGLE_TILE, Tiling, TokenLayout, layouts

Picture = Image.Image | str | os.PathLike


@dataclass(frozen=True)
class Prompt:
    """A question, ready for the model.

    Attributes:
        input_ids: int64 ``[T]``, with the image token at every position of a visual embedding.
        pixel_values: float32 ``[tiles, 3, H, W]``; a picture is one tile unless the bundle tiles it.
        layouts: for each picture, where its tiles' tokens stand in the prompt.
        preprocess_ms: what reading, resizing and tokenising took.
    """

    input_ids: np.ndarray
    pixel_values: np.ndarray
    layouts: list[TokenLayout]
    preprocess_ms: float


class Prompter:
    """Prepares questions about pictures for one bundle.

    Args:
        bundle: a verified bundle that has a language model.

    Raises:
        BundleError: the bundle has no language model, or its tokenizer cannot be read.
    """

    def __init__(self, bundle: Bundle):
        if bundle.manifest.decoder is None:
            raise BundleError(
                f"bundle '{bundle.path}' has no language model: it can encode pictures, but not answer",
                todo="export the checkpoint again with its language model",
            )
        self.decoder = bundle.manifest.decoder
        self.preprocessing = bundle.manifest.image_preprocessing
        self.token_grid = bundle.manifest.vision.token_grid
        tiling = bundle.manifest.vision.tiling
        self.tiling = Tiling.from_mapping(tiling) if tiling else None
        path = bundle.file("tokenizer.json")
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"the tokenizer '{path}' cannot be read: {error}") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def prepare(self, pictures: Sequence[Picture], question: str, *, max_pixels: int = MAX_PIXELS) -> Prompt:
        """Read the pictures and put the question in the model's chat format.

        Args:
            pictures: paths, or PIL pictures (taken as they are: upright RGB).
            question: plain text; it may place ``<image>`` marks itself, one a picture.
            max_pixels: larger files are refused from their header.

        Raises:
            ImageError: a picture cannot or may not be read.
            UsageError: the question is empty, or the prompt is longer than the model's context.
        """
        start = time.perf_counter()
        turn = question_turn(question, len(pictures))
        images = [p if isinstance(p, Image.Image) else load_image(p, max_pixels=max_pixels) for p in pictures]
        # One picture is tiled where the model was trained so; of several, each is one tile.
        tiled = self.tiling is not None and len(images) == 1
        sizes = [(image.height, image.width) if tiled else SINGLE_TILE for image in images]
        plans = layouts(sizes, grid=self.token_grid, tiling=self.tiling)
        height, width = self.preprocessing.height, self.preprocessing.width
        pixel_values = np.empty((sum(plan.tiles for plan in plans), 3, height, width), np.float32)
        for index, image in enumerate(images):
            if tiled:
                pixel_values[:] = self.tiling.split(image, self.preprocessing)
            else:
                pixel_values[index] = self.preprocessing(image)
        text = expand_image_tokens(render([turn], add_generation_prompt=True), [len(plan) for plan in plans])
        input_ids = np.asarray(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        self._check(input_ids, plans)
        return Prompt(input_ids, pixel_values, plans, 1000 * (time.perf_counter() - start))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Tokens to text, special tokens left out."""
        return self.tokenizer.decode([int(token) for token in token_ids], skip_special_tokens=True)

    def _check(self, input_ids: np.ndarray, plans: list[TokenLayout]) -> None:
        found, expected = int((input_ids == self.decoder.image_token_id).sum()), sum(len(plan) for plan in plans)
        if found != expected:
            raise BundleError(
                "the bundle's tokenizer and manifest do not agree on the image token",
                given=f"{found} tokens of id {self.decoder.image_token_id}",
                allowed=expected,
                todo="export the bundle again",
            )
        if len(input_ids) >= self.decoder.context_length:
            raise UsageError(
                "the prompt is longer than the model's context",
                given=f"{len(input_ids)} tokens, {expected} of them for {len(plans)} pictures",
                allowed=f"at most {self.decoder.context_length - 1}, so that one is left for the answer",
                todo="ask a shorter question, or show fewer pictures",
            )
