"""A LaCo checkpoint from an encoder folder and a language-model folder, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ..conversation import IM_END, IMAGE_TOKEN
from ..errors import CheckpointError
from . import checkpoint, weight_files
from .encoders.loading import load_encoder
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
    **options,
) -> LacoForConditionalGeneration:
    """Write a checkpoint whose encoder and language model are pretrained and whose merge and projector are not.

    Args:
        encoder: a folder that :func:`load_encoder` reads.
        language_model: a transformers causal language model with its tokenizer, which must know ``<|image_pad|>``.
        output: the checkpoint folder to write.
        at, method, options: see :meth:`LacoForConditionalGeneration.from_parts`.
        dtype: of all parts; None takes the language model's.

    Raises:
        CheckpointError: a folder is of another architecture, damaged, or its tokenizer lacks the tokens.
    """
    llm, tokenizer = load_language_model(Path(language_model), dtype)
    vision = load_encoder(encoder, dtype=llm.dtype)
    model = LacoForConditionalGeneration.from_parts(
        vision, llm, at=at, method=method, image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), **options
    ).to(llm.dtype)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(IM_END)
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), output, force=force)
    return model


def load_language_model(folder: Path, dtype: torch.dtype | None):
    """A causal language model and its tokenizer, from a folder in transformers' layout (safetensors only)."""
    model_type = weight_files.read_json(folder / "config.json").get("model_type")
    if model_type not in CONFIG_MAPPING or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"'{folder}' holds no causal language model that transformers knows",
            given=f"model_type {model_type!r}",
            allowed="qwen2, qwen3, llama and transformers' other causal language models",
        )
    weight_files.find(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers and tokenizers raise many kinds for a broken file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the language model of '{folder}' cannot be loaded: {reason}") from None
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        kind, names = next(iter(wrong.items()))
        raise CheckpointError(
            f"the tensors of '{folder}' are not those that its config.json describes",
            given=f"{kind}: {', '.join(map(str, list(names)[:3]))}",
        )
    unknown = [t for t in (IMAGE_TOKEN, IM_END) if t not in tokenizer.get_vocab()]
    if unknown:
        raise CheckpointError(
            f"the tokenizer of '{folder}' lacks {', '.join(unknown)}",
            allowed="a tokenizer with Qwen2.5's special tokens",
            todo="add them with tokenizer.add_special_tokens and save the folder again",
        )
    return model.eval(), tokenizer
