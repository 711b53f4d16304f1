"""Stage 0 of the language model: transformers' Qwen2ForCausalLM on text alone.

It reads descriptions (:mod:`.descriptions`) where pictures will stand, so that it has learnt to look things up there,
to caption, and to answer in ChatML before the first picture comes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from laco_export.atomic import new_directory
from laco_export.conversation import IMAGE_MARK, render_with_mask

from ..data import IGNORED, plain_pieces, read_entries, turns_of
from ..step_callbacks import step_note
from .optimizers import PretrainingOptimizer, batches
from .recipe import Pretraining
from .tokenizer import train_tokenizer

_CONTEXT = 1024  # positions; the longest sample of the recipe takes about 200
_INITIALIZER_RANGE = 0.05  # transformers' 0.02 is made for widths near 1000
_EMBEDDING_STD = 0.7
_ROPE_THETA = 10_000.0  # Qwen2.5's 1e6 is made for 32768 positions


def pretrain_language_model(
    data_folder: Path,
    output: Path,
    recipe: Pretraining,
    *,
    seed: int,
    advance: Callable[..., None] = lambda *_, **__: None,
) -> list[float]:
    """Train on ``texts.json`` and write an ordinary transformers folder with its tokenizer; returns the losses."""
    tokenizer = train_tokenizer()
    pieces = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
    samples = [tokenize(entry, pieces) for entry in read_entries(data_folder / "texts.json")]
    samples.sort(key=lambda sample: len(sample[1]))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = new_language_model(recipe, tokenizer)
    optimizer = PretrainingOptimizer((model,), model.model.layers, recipe)
    losses = []
    # Batches are runs of the sorted list: samples of about one length, hardly any padding.
    runs = [samples[start : start + recipe.batch_size] for start in range(0, len(samples), recipe.batch_size)]
    for index in batches(len(runs), 1, recipe.steps, generator):
        ids, labels = collate(runs[int(index)])
        loss = model(inputs_embeds=embed_bags(model, ids), labels=labels, use_cache=False).loss
        optimizer.step(loss)
        losses.append(round(loss.item(), 4))
        advance(1, note=step_note(losses[-1], optimizer.learning_rates))
    with new_directory(output) as partial:
        model.eval().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return losses


def new_language_model(recipe: Pretraining, tokenizer) -> torch.nn.Module:
    """A fresh ``Qwen2ForCausalLM`` that ends its answers with ``<|im_end|>``."""
    from transformers import GenerationConfig, Qwen2ForCausalLM

    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = language_config(recipe, len(tokenizer))
    config.update({"eos_token_id": end, "pad_token_id": pad})
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():  # wide apart from the start: letters that are alike to the model would be learnt last
        model.model.embed_tokens.weight.normal_(std=_EMBEDDING_STD)
        model.model.norm.weight.fill_(_INITIALIZER_RANGE * 2 / _EMBEDDING_STD)  # and yet even odds at the tied head
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    return model


def language_config(recipe: Pretraining, vocab_size: int):
    """The ``Qwen2Config`` of the recipe's sizes, with tied embeddings as Qwen2.5-0.5B's."""
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


def tokenize(entry: dict, tokenize_piece: Callable[[str], list[int]]) -> tuple[list[list[int]], list[int]]:
    """The bags of token ids of all positions, and their labels; only what the assistant says counts.

    A described place is one position with several tokens, every other position has one.
    """
    pieces = plain_pieces({**entry, "image": [""]}) if entry["plain"] else render_with_mask(turns_of(entry))
    bags: list[list[int]] = []
    labels: list[int] = []
    for text, counts in pieces:
        before, *after = text.split(IMAGE_MARK)
        ids = [[token] for token in tokenize_piece(before)]
        if after:
            ids += [[token for phrase in cell for token in tokenize_piece(phrase)] for cell in entry["cells"]]
            ids += [[token] for token in tokenize_piece(after[0])]
        bags += ids
        labels += [bag[0] if counts else IGNORED for bag in ids]
    return bags, labels


def collate(samples: list[tuple[list[list[int]], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Bags int64 [B, T, K] (-1 where there is no token) and labels int64 [B, T], padded at the right."""
    length = max(len(labels) for _, labels in samples)
    widest = max(len(bag) for bags, _ in samples for bag in bags)
    ids = torch.full((len(samples), length, widest), -1)
    targets = torch.full((len(samples), length), IGNORED)
    for row, (bags, labels) in enumerate(samples):
        ids[row, : len(bags)] = torch.tensor([bag + [-1] * (widest - len(bag)) for bag in bags])
        targets[row, : len(labels)] = torch.tensor(labels)
    return ids, targets


def embed_bags(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Sums of token embeddings: int64 [B, T, K] to [B, T, D]."""
    return (model.get_input_embeddings()(ids.clamp(min=0)) * (ids >= 0).unsqueeze(-1)).sum(2)
