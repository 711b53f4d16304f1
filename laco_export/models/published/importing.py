"""A published vision-language model's folder as model and processor, and as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from ... import weight_files
from ...chat_format import ChatFormat
from ...errors import CheckpointError, ConfigError, LacoError, telling_line
from ...published_families import read_published_config
from .. import checkpoint
from ..chat_template import chat_format_of, stated_chat_template
from ..configuration import CompressionConfig, LacoConfig
from ..language_models import read_tokenizer, settle_generation
from ..merging import merge_inside
from ..modeling import LacoForConditionalGeneration
from ..own_vocabulary import own_vocabulary
from ..processing import LacoProcessor
from ..unallocated import parameters_without_memory
from ..vocabulary import grow_vocabulary, stated_end_ids
from .internvl import INTERNVL, INTERNVL_CHAT
from .llava import LLAVA, LLAVA_NEXT, LLAVA_ONEVISION
from .llava_qwen import LLAVA_QWEN
from .specification import PublishedLayout, PublishedModel
from .tensors import load_tensors

LAYOUTS: dict[str, PublishedLayout] = {
    layout.model_type: layout for layout in (LLAVA, LLAVA_NEXT, LLAVA_ONEVISION, LLAVA_QWEN, INTERNVL, INTERNVL_CHAT)
}
"""By the ``model_type`` of ``config.json``."""


class Imported(NamedTuple):
    """A published model in this project's classes.

    Attributes:
        model: with compression off, in evaluation mode, in the stored dtype.
        processor: with the folder's tokenizer, chat format, tiling and preprocessing.
        remarks: a sentence about each thing that was added, left out or is not as in the folder.
    """

    model: LacoForConditionalGeneration
    processor: LacoProcessor
    remarks: tuple[str, ...]


def read_published(folder: Path | str, *, dtype: torch.dtype | None = None) -> Imported:
    """A published folder as a model that gives the same logits.

    Args:
        folder: as it was downloaded: ``config.json``, safetensors whole or sharded, tokenizer and preprocessor files.
        dtype: of all weights; None keeps what is stored.

    Raises:
        CheckpointError: of another family (the message names those that are known), LoRA adapters, pickled weights;
            damaged; with fields that are not read, tensors that do not fit, another model's tokenizer, or a chat
            template that is more than text around turns.
    """
    folder = Path(folder)
    published = described_model(folder)
    tokenizer = read_tokenizer(folder)
    model = _empty_model(folder, published, _image_token_id(folder, published, tokenizer))
    generation = _generation_config(folder, model)
    chat_format, template = _chat_format(folder, published, tokenizer)
    _check_texts(folder, chat_format)
    vocabulary = own_vocabulary(
        tokenizer,
        published.text_config.vocab_size,
        folder,
        image_token=chat_format.image_token,
        answer_end=chat_format.answer_end,
        end_ids=stated_end_ids(folder, generation.eos_token_id, published.text_config.eos_token_id),
        pad_id=published.text_config.pad_token_id,
    )
    skipped = load_tensors(model, folder, published, dtype)
    model.generation_config = model.language_model.generation_config = generation
    remarks = [*published.remarks, *vocabulary.changes, *settle_generation(model)]
    if skipped:
        remarks.append(f"{len(skipped)} stored tensors have no place: {', '.join(skipped[:3])}")
    grow_vocabulary(model.language_model, vocabulary)
    model.config.text_config = model.language_model.config
    model.config.dtype = model.projector.linear_1.weight.dtype
    model.config.image_token_id = tokenizer.convert_tokens_to_ids(chat_format.image_token)
    processor = LacoProcessor.for_model(
        model, tokenizer, published.preprocessing, chat_format=chat_format, chat_template=template
    )
    return Imported(model.eval(), processor, tuple(remarks))


def import_published(
    folder: Path | str,
    output: Path | str,
    *,
    at: Sequence[str] = (),
    ratio: int | str | Sequence[str] = 2,
    dtype: torch.dtype | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> LacoForConditionalGeneration:
    """Write a published folder as a checkpoint.

    Args:
        at: depths of merges that are put inside, each as the average of its window; none keeps compression off.
        ratio: of the merges.
        dtype: as of :func:`read_published`.
        say: called with each of :attr:`Imported.remarks`.

    Raises:
        CheckpointError: see :func:`read_published`.
        DepthError, ConfigError: the encoder cannot be merged so.
    """
    imported = read_published(folder, dtype=dtype)
    for remark in imported.remarks if say else ():
        say(remark)
    model, processor = imported.model, imported.processor
    if at:
        window, tokens = model.config.projector_window, model.tokens_per_image
        model = merge_inside(model, list(at), ratio=ratio)
        processor = processor.fitted_to(model)
        if say and window > 1:
            say(
                f"the merges take the place of the window of {window} x {window} behind the encoder, which left the "
                f"language model {tokens} tokens a tile"
            )
    checkpoint.save(model, processor, output, force=force)
    return model


def described_model(folder: Path) -> PublishedModel:
    """What the ``config.json`` of a folder describes.

    Raises:
        CheckpointError: no model of a known family, or a form of one that is not supported.
    """
    values = read_published_config(folder)
    return LAYOUTS[values["model_type"]].describe(values, folder)


def _empty_model(folder: Path, published: PublishedModel, image_token_id: int) -> LacoForConditionalGeneration:
    """The model without memory for its parameters."""
    described = f"'{folder / 'config.json'}' describes a model that cannot be built"
    try:
        config = LacoConfig(
            vision_config=published.vision_config,
            text_config=published.text_config,
            compression=CompressionConfig(method=None),
            image_token_id=image_token_id,
            **published.fields,
        )
        with parameters_without_memory():
            return LacoForConditionalGeneration(config)
    except LacoError as error:
        raise CheckpointError(
            f"{described}: {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
        ) from None
    except Exception as error:  # transformers' classes check their configuration only when they are built
        raise CheckpointError(f"{described}: {telling_line(error)}") from error


def _generation_config(folder: Path, model: LacoForConditionalGeneration) -> GenerationConfig:
    path = folder / "generation_config.json"
    if not path.is_file():
        return GenerationConfig.from_model_config(model.config.text_config)
    try:
        return GenerationConfig.from_dict(weight_files.read_json(path))
    except LacoError:
        raise
    except Exception as error:  # transformers raises many kinds for a wrong field
        raise CheckpointError(f"'{path}' cannot be read: {telling_line(error)}") from error


def _image_token_id(folder: Path, published: PublishedModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """The picture's token; one that the tokenizer lacks is given the next id when the vocabulary is fitted."""
    if published.image_token_id is not None:
        return published.image_token_id
    return tokenizer.get_vocab().get(published.image_token, len(tokenizer))


def _chat_format(
    folder: Path, published: PublishedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[ChatFormat, str | None]:
    """The chat format and its jinja template: the publisher's code's, else the folder's."""
    if published.chat_format is not None:
        return published.chat_format, None
    image_token = published.image_token or _token_named(folder, published, tokenizer)
    template = stated_chat_template(folder)
    if template is None:
        raise CheckpointError(
            f"'{folder}' has no chat template, which says how its conversations are written",
            allowed="chat_template.jinja, chat_template.json, or chat_template in tokenizer_config.json",
            todo="get these files from where the model was published",
        )
    return chat_format_of(template, tokenizer, image_token=image_token, **published.pictures), template


def _check_texts(folder: Path, chat_format: ChatFormat) -> None:
    """Some of its texts are fields of JSON files.

    Raises:
        CheckpointError: one is no text.
    """
    try:
        ChatFormat.from_dict(chat_format.to_dict())
    except ConfigError as error:
        raise CheckpointError(
            f"the conversations of '{folder}' cannot be written: {error.failed}",
            given=error.given,
            allowed=error.allowed,
            todo="get its JSON files again from where the model was published",
        ) from None


def _token_named(folder: Path, published: PublishedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    token = tokenizer.convert_ids_to_tokens(published.image_token_id)
    if published.image_token_id not in tokenizer.added_tokens_decoder:
        raise CheckpointError(
            f"the tokenizer of '{folder}' does not fit its model",
            given=f"image_token_index {published.image_token_id}"
            + (f", of {len(tokenizer)} tokens" if token is None else f", which is {token!r}, a part of words"),
            allowed="the id of one of its added tokens",
            todo="get both from one place",
        )
    return token
