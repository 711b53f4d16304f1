"""Stage 0 of the language model: transformers' Qwen2ForCausalLM on text alone.

It reads descriptions (`descriptions`) with questions, so that it has learnt to look things up in its context and to
answer in ChatML before the first picture comes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from laco_export.atomic import new_directory
from laco_export.conversation import render_with_mask

from ..samples import IGNORED, Collator, read_entries, turns_of
from .optimizers import PretrainingOptimizer, batches
from .recipe import Pretraining
from .tokenizer import train_tokenizer

_CONTEXT = 1024  # positions; the longest sample of the recipe takes about 200
_INITIALIZER_RANGE = 0.05  # transformers' 0.02 is made for widths near 1000
_ROPE_THETA = 10_000.0  # Qwen2.5's 1e6 is made for 32768 positions


def pretrain_language_model(
    data_folder: Path,
    output: Path,
    recipe: Pretraining,
    *,
    seed: int,
    force: bool = False,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[float]:
    """Train on `texts.json` and write an ordinary transformers folder with its tokenizer; returns the losses."""
    tokenizer = train_tokenizer()
    samples = [tokenize(entry, tokenizer) for entry in read_entries(data_folder / "texts.json")]
    samples.sort(key=lambda sample: len(sample["input_ids"]))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = new_language_model(recipe, tokenizer)
    optimizer = PretrainingOptimizer((model,), model.model.layers, recipe)
    collate = Collator(tokenizer.pad_token_id)
    losses = []
    # Batches are runs of the sorted list: samples of about one length, hardly any padding.
    runs = [samples[start : start + recipe.batch_size] for start in range(0, len(samples), recipe.batch_size)]
    for index in batches(len(runs), 1, recipe.steps, generator):
        loss = model(**collate(runs[int(index)]), use_cache=False).loss
        optimizer.step(loss)
        losses.append(round(loss.item(), 4))
        advance(1)
    with new_directory(output, force=force) as partial:
        model.eval().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return losses


def new_language_model(recipe: Pretraining, tokenizer) -> torch.nn.Module:
    """A fresh `Qwen2ForCausalLM` that ends its answers with `<|im_end|>`."""
    from transformers import GenerationConfig, Qwen2ForCausalLM

    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = language_config(recipe, len(tokenizer))
    config.update({"eos_token_id": end, "pad_token_id": pad})
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    return model


def language_config(recipe: Pretraining, vocab_size: int):
    """The `Qwen2Config` of the recipe's sizes, with tied embeddings as Qwen2.5-0.5B's."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        num_key_value_heads=recipe.num_key_value_heads or recipe.num_attention_heads,
        max_position_embeddings=_CONTEXT,
        rope_theta=_ROPE_THETA,
        rms_norm_eps=1e-6,
        initializer_range=_INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
    )


def tokenize(entry: dict, tokenizer) -> dict[str, torch.Tensor]:
    """Input ids and labels [T]; only what the assistant says counts."""
    pieces = render_with_mask(turns_of(entry))
    ids = tokenizer([text for text, _ in pieces], add_special_tokens=False)["input_ids"]
    labels = [piece if counts else [IGNORED] * len(piece) for piece, (_, counts) in zip(ids, pieces, strict=True)]
    return {"input_ids": torch.tensor(sum(ids, [])), "labels": torch.tensor(sum(labels, []))}
