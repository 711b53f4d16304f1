"""Where transformers 4.57 and 5 differ, but for the encoders (:mod:`.encoders`), which are met in their own files.

What is asked is what the installed library has, not its version: transformers 5 renames things release by release.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import transformers
from transformers import GenerationMixin, PretrainedConfig
from transformers.utils import logging

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

IS_5 = int(transformers.__version__.split(".")[0]) >= 5

CACHE = (
    "cache"
    if "cache" in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    else "past_key_values"
)
"""What ``forward`` and ``generate`` of a language model call the key-value cache."""


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """5 draws a bar for each model that is loaded or saved, 4.57 for those in several files; commands say what they do
    themselves."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def tied_weights_keys(sources: Mapping[str, str]) -> dict[str, str] | list[str]:
    """A model's ``_tied_weights_keys``, of which either form gives the tied names when iterated.

    Args:
        sources: by the name of each tied tensor the one whose memory it takes.
    """
    return dict(sources) if IS_5 else list(sources)


def checkpointing_arguments(enabled: bool, **options: object) -> dict[str, object]:
    """The fields of ``TrainingArguments`` that ask for activations to be computed again in the backward pass; 5 has
    renamed them, and warns of the names that 4.57 has."""
    named = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    prefix = "activation" if "activation_checkpointing" in named else "gradient"
    return {f"{prefix}_checkpointing": enabled, f"{prefix}_checkpointing_kwargs": options}


def made_of(**parts: str) -> Callable[[type], type]:
    """A class decorator that tells a ``ProcessorMixin`` the class of each of its parts; 5 takes them from the arguments
    of its ``__init__``."""

    def tell(processor_class: type) -> type:
        if not IS_5:
            processor_class.attributes = list(parts)
            for part, class_name in parts.items():
                setattr(processor_class, f"{part}_class", class_name)
        return processor_class

    return tell


def extra_special_tokens(tokens: Sequence) -> dict:
    """Options of a tokenizer's ``from_pretrained`` for special tokens that have no role (padding, end) of their own."""
    return (
        {"extra_special_tokens": list(tokens)}
        if IS_5
        else {"extra_special_tokens": {}, "additional_special_tokens": list(tokens)}
    )


def add_extra_special_tokens(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[AddedToken]) -> None:
    """Add special tokens that have no role of their own to those that are there."""
    name = "extra_special_tokens" if IS_5 else "additional_special_tokens"
    tokenizer.add_special_tokens({name: list(tokens)}, **{f"replace_{name}": False})


def configuration_fields(config_class: type[PretrainedConfig]) -> frozenset[str]:
    """The fields of ``config.json`` that a configuration's class and its ancestors name: as arguments of ``__init__``
    in 4.57, as fields of a dataclass in 5."""
    names = set(config_class.attribute_map)
    if dataclasses.is_dataclass(config_class):
        names |= {field.name for field in dataclasses.fields(config_class)} | _OF_EVERY_CONFIGURATION
        names |= {"rope_theta", "rope_scaling"} if "rope_parameters" in names else set()
    for ancestor in config_class.__mro__:
        if issubclass(ancestor, PretrainedConfig) and "__init__" in vars(ancestor):
            names |= inspect.signature(ancestor.__init__).parameters.keys()
    return frozenset((names | _generation_fields()) - {"self", "args", "kwargs"})


_OF_EVERY_CONFIGURATION = frozenset(
    {
        *("output_attentions", "num_labels", "torchscript", "pruned_heads", "is_decoder", "add_cross_attention"),
        *("cross_attention_hidden_size", "tie_encoder_decoder", "tie_word_embeddings", "finetuning_task", "prefix"),
        *("task_specific_params", "tokenizer_class", "decoder_start_token_id"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"),
    }
)
"""What 4.57's ``PretrainedConfig`` takes and the dataclass of 5 no longer names: none changes what a decoder or an
encoder of this project computes."""


def rotary_parameters(config: PretrainedConfig) -> dict:
    """A language model's rotary embedding in the form of 5: ``rope_theta``, ``rope_type`` and what that kind takes."""
    if IS_5:
        return dict(config.rope_parameters)
    return {"rope_type": "default", **(config.rope_scaling or {}), "rope_theta": config.rope_theta}


def event_folder(folder: Path | None) -> dict[str, str]:
    """Arguments of ``TrainingArguments`` for TensorBoard's event files in ``folder``; 5 looks for it in the environment
    when a ``Trainer`` is built."""
    if folder is None:
        return {}
    if IS_5:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)
        return {}
    return {"logging_dir": str(folder)}


def settle_generation_fields(language_model: PreTrainedModel) -> None:
    """Move what its ``config`` says of generation to its ``generation_config``, as saving asks for; 5 has it nowhere
    else."""
    if IS_5:
        return
    config = language_model.config
    for name, value in config._get_non_default_generation_parameters().items():
        setattr(language_model.generation_config, name, value)
        setattr(config, name, None)


def _generation_fields() -> set[str]:
    """What a ``config.json`` may hold of ``generation_config.json``."""
    if IS_5:
        from transformers import GenerationConfig

        return set(GenerationConfig._get_default_generation_params())
    return set(PretrainedConfig._get_global_generation_defaults())
