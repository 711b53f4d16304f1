"""A language model's folder, read and made ready for pictures: its configuration, vocabulary and weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ..errors import CheckpointError, telling_line
from . import weight_files
from .vocabulary import ReadyVocabulary, grow_vocabulary, prepare_vocabulary


def read_language_config(folder: Path) -> PretrainedConfig:
    """The configuration of a causal language model's folder.

    A padding token beyond the model's rows, which tokenizers grown by hand leave there, is dropped: with it the model
    cannot be built, and :func:`read_vocabulary` chooses one.

    Raises:
        CheckpointError: it is damaged, no causal language model's, or its weights are quantised.
    """
    stated = weight_files.read_json(folder / "config.json")
    model_type = stated.get("model_type")
    quantised = stated.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise CheckpointError(
            f"'{folder}' holds quantised weights, which are neither trained nor exported as they are",
            given=f"quantization_config with quant_method {method!r}",
            allowed="float weights: the folder that it was quantised from",
            todo="or bring it back to floats where its library can (transformers: dequantize(), save_pretrained()); "
            "four bits with whole zero points in groups of 128, as of AWQ and GPTQ, keep their grid in --llm int4",
        )
    if model_type not in CONFIG_MAPPING or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"'{folder}' holds no causal language model that transformers knows",
            given=f"model_type {model_type!r}",
            allowed="qwen2, qwen3, llama and transformers' other causal language models",
        )
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds for a wrong field
        raise CheckpointError(f"'{folder / 'config.json'}' cannot be read: {telling_line(error)}") from error
    if (config.pad_token_id or 0) >= config.vocab_size:
        config.pad_token_id = None
    return config


def read_vocabulary(folder: Path, config: PretrainedConfig) -> ReadyVocabulary:
    """The folder's tokenizer, made ready (:func:`~.vocabulary.prepare_vocabulary`).

    Raises:
        CheckpointError: it cannot be loaded, or not be made ready.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers and tokenizers raise many kinds for a broken file
        raise CheckpointError(f"the tokenizer of '{folder}' cannot be loaded: {telling_line(error)}") from error
    generation = folder / "generation_config.json"
    stated = [weight_files.read_json(generation).get("eos_token_id")] if generation.is_file() else []
    end_ids = []
    for ids in (*stated, config.eos_token_id):
        end_ids += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return prepare_vocabulary(tokenizer, config.vocab_size, folder, end_ids=end_ids, pad_id=config.pad_token_id)


def load_language_model(folder: Path, dtype: torch.dtype | None):
    """A causal language model and its vocabulary, from a folder in transformers' layout (safetensors only).

    Returns:
        The model, grown to its vocabulary, and the :class:`~.vocabulary.ReadyVocabulary`.

    Raises:
        CheckpointError: see :func:`read_language_config` and :func:`read_vocabulary`; or the weights are not those that
            its config.json describes.
    """
    config = read_language_config(folder)
    weight_files.find(folder)
    vocabulary = read_vocabulary(folder, config)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises many kinds for a broken file
        raise CheckpointError(f"the language model of '{folder}' cannot be loaded: {telling_line(error)}") from error
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        kind, names = next(iter(wrong.items()))
        raise CheckpointError(
            f"the tensors of '{folder}' are not those that its config.json describes",
            given=f"{kind}: {', '.join(map(str, list(names)[:3]))}",
        )
    grow_vocabulary(model, vocabulary)
    return model.eval(), vocabulary
