"""A language model's folder, read and made ready for pictures: its configuration, vocabulary and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from .. import weight_files
from ..errors import CheckpointError, LacoError, telling_line
from ..exportable import require_exportable, require_family
from ..field_types import FieldError
from ..generation_fields import SAMPLING_FIELDS, check_generation_field
from .own_chat_format import own_chat_format
from .own_vocabulary import own_vocabulary
from .stated_config import config_as_stated, modeling_of
from .tensor_audit import refuse_not_finite
from .transformers_versions import extra_special_tokens, without_progress_bars
from .vocabulary import ReadyVocabulary, grow_vocabulary, lacks_chatml, prepare_vocabulary, stated_end_ids

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""What a tokenizer's vocabulary is stored in: the library's own, SentencePiece's, BPE's, WordPiece's."""


def read_language_config(folder: Path) -> PretrainedConfig:
    """The configuration of a causal language model's folder.

    A padding token beyond the model's rows, which tokenizers grown by hand leave there, is dropped: with it the model
    cannot be built, and :func:`read_vocabulary` chooses one.

    Raises:
        CheckpointError: it is damaged, says what the installed transformers would not do, or is of a model that cannot
            be exported (:mod:`laco_export.exportable`): of another family, with quantised weights, over a sliding
            window.
    """
    stated = weight_files.read_json(folder / "config.json")
    weight_files.refuse_quantised(folder, stated)
    weight_files.refuse_many_layers(folder, stated)
    return language_config_as_stated(stated, folder, stated_in=folder)


def language_config_as_stated(stated: dict, folder: Path, *, stated_in: Path | str) -> PretrainedConfig:
    """The same from the fields themselves, which may be a part of a larger ``config.json``.

    Args:
        stated_in: what errors about a single field name.

    Raises:
        CheckpointError: see :func:`read_language_config`.
    """
    model_type, named = stated.get("model_type"), f"the language model of '{folder}'"
    require_family(model_type, named, error=CheckpointError)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]
    try:
        config = config_as_stated(stated, stated_in, modeling_of(model_class))
        require_exportable(config, named, error=CheckpointError)
        if (config.pad_token_id or 0) >= config.vocab_size:
            config.pad_token_id = None
    except LacoError:
        raise
    except Exception as error:  # many kinds for a field of a wrong type, which transformers' class takes as it is
        raise CheckpointError(f"'{folder / 'config.json'}' cannot be read: {telling_line(error)}") from error
    return config


def read_vocabulary(folder: Path, config: PretrainedConfig) -> ReadyVocabulary:
    """The folder's tokenizer, made ready for ChatML (:func:`~.vocabulary.prepare_vocabulary`); one without ChatML's
    tokens keeps the format of its own chat template.

    Raises:
        CheckpointError: it cannot be loaded, or not be made ready.
    """
    tokenizer = read_tokenizer(folder)
    generation = folder / "generation_config.json"
    stated = [weight_files.read_json(generation).get("eos_token_id")] if generation.is_file() else []
    end_ids = stated_end_ids(folder, *stated, config.eos_token_id)
    ready = {"model_rows": config.vocab_size, "folder": folder, "end_ids": end_ids, "pad_id": config.pad_token_id}
    if not lacks_chatml(tokenizer):
        return prepare_vocabulary(tokenizer, **ready)
    own = own_chat_format(tokenizer, folder)
    vocabulary = own_vocabulary(
        tokenizer, **ready, image_token=own.chat_format.image_token, answer_end=own.chat_format.answer_end
    )
    return replace(vocabulary, chat_format=own.chat_format, changes=(*vocabulary.changes, *own.changes))


def load_language_model(folder: Path, dtype: torch.dtype | None):
    """A causal language model and its vocabulary, from a folder in transformers' layout (safetensors only).

    Returns:
        The model, grown to its vocabulary, and the :class:`~.vocabulary.ReadyVocabulary`.

    Raises:
        CheckpointError: see :func:`read_language_config` and :func:`read_vocabulary`; or the weights are not those that
            its config.json describes, or hold inf or NaN.
    """
    config = read_language_config(folder)
    weight_files.find(folder)
    vocabulary = read_vocabulary(folder, config)
    try:
        with without_progress_bars():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # transformers raises many kinds for a broken file
        raise CheckpointError(f"the language model of '{folder}' cannot be loaded: {telling_line(error)}") from error
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise CheckpointError(
            f"the tensors of '{folder}' are not those that its config.json describes",
            given="; ".join(f"{kind}: {', '.join(map(str, list(names)[:3]))}" for kind, names in wrong.items()),
        )
    refuse_not_finite(folder, model.named_parameters())
    remarks = settle_generation(model)
    grow_vocabulary(model, vocabulary)
    return model.eval(), replace(vocabulary, changes=(*vocabulary.changes, *remarks))


def settle_generation(model) -> list[str]:
    """Leave out of ``model.generation_config`` what a checkpoint cannot be saved with, and what a bundle could not
    answer with; a sentence about each."""
    own, usual, left_out = model.generation_config, GenerationConfig(), {}
    for name, value in own.to_diff_dict().items():
        greedy = name in SAMPLING_FIELDS and not own.do_sample
        try:
            check_generation_field(name, value)
        except FieldError:
            greedy = True
        if greedy:
            left_out[name] = value
            if hasattr(usual, name):
                setattr(own, name, getattr(usual, name))
            else:
                delattr(own, name)
    sampling = [f"{name} {value}" for name, value in left_out.items() if name in SAMPLING_FIELDS]
    others = [f"{name} {value}" for name, value in left_out.items() if name not in SAMPLING_FIELDS]
    return [
        *([f"answers are greedy (do_sample false), so {', '.join(sampling)} are left out"] if sampling else []),
        *([f"left out of generation_config.json: {', '.join(others)}"] if others else []),
    ]


def read_tokenizer(folder: Path):
    """A folder's tokenizer as it is, also where transformers 5 saved it: its class is another, and a list has another
    name.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    weight_files.refuse_pointers(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(
            f"the tokenizer of '{folder}' is not there",
            allowed=f"one of {', '.join(_TOKENIZER_FILES)}",
            todo="get these files from where the model was published",
        )
    try:
        tokenizer = _tokenizer_of(folder)
        tokenizer("a")  # fields of a wrong type are met only here
        return tokenizer
    except LacoError:
        raise
    except Exception as error:  # transformers and tokenizers raise many kinds for a broken file
        raise CheckpointError(f"the tokenizer of '{folder}' cannot be loaded: {telling_line(error)}") from error


def _tokenizer_of(folder: Path):
    path = folder / "tokenizer_config.json"
    stated = weight_files.read_json(path) if path.is_file() else {}
    extra, options = stated.get("extra_special_tokens"), {}
    if isinstance(extra, list):
        options = extra_special_tokens(extra)
    # By its class: where that is the plain one 5's AutoTokenizer takes the model's, and its end and padding tokens.
    if stated.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        return PreTrainedTokenizerFast.from_pretrained(folder, **options)
    return AutoTokenizer.from_pretrained(folder, **options)
