"""A LaCo checkpoint from an encoder folder and a language-model folder, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..errors import ConfigError
from . import checkpoint
from .encoders.loading import load_encoder, stated_preprocessing
from .language_models import load_language_model
from .modeling import LacoForConditionalGeneration
from .processing import LacoProcessor
from .stated_pixels import check_stated_pixels


def initialize(
    encoder: Path | str,
    language_model: Path | str,
    output: Path | str,
    *,
    at: str | Sequence[str] = "1/2",
    method: str | None = "laco",
    dtype: torch.dtype | None = None,
    prepare: Callable[[LacoForConditionalGeneration, LacoProcessor], None] | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
    **options,
) -> LacoForConditionalGeneration:
    """Write a checkpoint whose encoder and language model are pretrained and whose merge and projector are not.

    Args:
        encoder: a folder that :func:`load_encoder` reads.
        language_model: a transformers causal language model with its tokenizer, which is made ready for pictures
            (:mod:`.vocabulary`); conversations are ChatML or, where it was not taught that, its own format.
        output: the checkpoint folder to write.
        at, method, options: see :meth:`LacoForConditionalGeneration.from_parts`.
        dtype: of all parts; None takes the language model's.
        prepare: called with the model and its processor before they are written, to change how new layers start
            (:func:`scale_projector`).
        say: called with each sentence about what the tokenizer needed, and what of a folder is not as published.

    Raises:
        CheckpointError: a folder is of another architecture or damaged, or its tokenizer cannot be made ready.
    """
    preprocessing, remarks = stated_preprocessing(encoder)
    for remark in remarks if say else ():
        say(f"encoder: {remark}")
    llm, vocabulary = load_language_model(Path(language_model), dtype)
    tokenizer = vocabulary.tokenizer
    for change in vocabulary.changes if say else ():
        say(f"language model: {change}")
    vision = load_encoder(encoder, dtype=llm.dtype)
    image_token_id = tokenizer.convert_tokens_to_ids(vocabulary.chat_format.image_token)
    model = LacoForConditionalGeneration.from_parts(
        vision, llm, at=at, method=method, image_token_id=image_token_id, **options
    ).to(llm.dtype)
    processor = LacoProcessor.for_model(model, tokenizer, preprocessing, chat_format=vocabulary.chat_format)
    check_stated_pixels(Path(encoder), processor.image_processor)
    if prepare:
        prepare(model, processor)
    checkpoint.save(model, processor, output, force=force)
    return model


@torch.no_grad()
def scale_projector(model: LacoForConditionalGeneration) -> tuple[float, float]:
    """Scale the projector's last layer so that visual embeddings have the root mean square of the text embeddings.

    A fresh projector gives embeddings of whatever size the encoder's features and PyTorch's initialisation make them;
    far from the text's, a first stage of small batches spends its steps on their size. Of an elastic model the depth
    that is set counts. The pictures are :func:`patterns`: behind an encoder's final norm the size hardly depends on
    what is shown.

    Returns:
        the root mean square before and after, over four patterns.
    """
    vision = model.config.vision_config
    height, width = model.vision_model.spec.image_size(vision)
    table = model.get_input_embeddings().weight
    text_rms = table.float().pow(2).mean().sqrt().item()
    pixels = patterns(4, vision.num_channels, height, width).to(table)
    visual_rms = model.get_image_features(pixels).float().pow(2).mean().sqrt().item()
    for parameter in model.projector.linear_2.parameters():
        parameter.mul_(text_rms / visual_rms)
    return visual_rms, text_rms


@torch.no_grad()
def average_merges(model: LacoForConditionalGeneration) -> None:
    """Let every merge begin as the average of its window: the MLP's last layer is zero, the residual is left.

    A fresh MLP adds to each merged token as much noise as the token is large, and blocks that were trained on the
    encoder's own tokens make nothing of it; behind averages they go on much as they did. The first step moves the last
    layer, the second all.

    Raises:
        ConfigError: the merge has no such MLP, or no residual that would be left.
    """
    compression = model.config.compression_config
    if compression is None or compression.method != "laco":
        raise ConfigError(
            "only a merge with LaCo's residual can begin as an average",
            given=f"compression method {compression and compression.method}",
            allowed="laco",
        )
    for _, compressor in model.vision_model.all_merges():
        for parameter in compressor.mlp.linear_2.parameters():
            parameter.zero_()


def patterns(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Float32 ``[count, channels, height, width]`` of mean 0 and variance 1: noise of coarse to fine grain, by a fixed
    seed, as a preprocessed picture's pixels vary on all scales."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.zeros(count, channels, height, width)
    for cells in (2, 4, 8, 16, 32):
        grain = torch.randn(count, channels, cells, cells, generator=generator)
        pixels += torch.nn.functional.interpolate(grain, (height, width), mode="bilinear", align_corners=False)
    return (pixels - pixels.mean((1, 2, 3), keepdim=True)) / pixels.std((1, 2, 3), keepdim=True)
