"""Before the arms: an encoder pretrained at its full token count, and a small causal decoder that reads from it.

First the encoder learns patch by patch which letter stands there (as stage 0 of the tiny recipe does), then encoder,
projector and decoder learn together to read whole pages, until 90 % of the letters are right. Muon takes both off the
ground in minutes; the arms are trained with AdamW, as published.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

from laco_export.models import LacoForConditionalGeneration
from laco_training.tiny.encoder_pretraining import GRID, new_encoder
from laco_training.tiny.optimizers import PretrainingOptimizer
from laco_training.tiny.recipe import Pretraining

from .pages import CELLS, LETTERS, PER_PAGE, draw_pages
from .reader import BATCH, FIRST_CELL, IMAGE, VOCABULARY, accuracy, answer, batch_of

WIDTH, BLOCKS = 64, 12  # of the encoder; twelve blocks make 1/12, 1/6, 1/4, 1/2 and 1 whole blocks
READS = 0.90  # share of letters that the full-token reader must reach
_ROUNDS = 3  # of reading, at most
_DECODER_LAYERS = 2
_WHITENED_PAGES = 300
_EMBEDDING_STD, _INITIALIZER_RANGE, _QK_SCALE = 0.7, 0.05, 1.5  # as the tiny recipe's parts start
_PATCHES, _READING = 1, 2  # parts of the drawing key


def pretraining_recipe(steps: int, muon_learning_rate: float) -> Pretraining:
    """The sizes of the encoder, with the steps of one part of the pretraining."""
    return Pretraining(WIDTH, 160, BLOCKS, 4, steps, BATCH, 2e-3, muon_learning_rate)


def pretrain_encoder(seed: int, steps: int, advance: Callable[[], None]) -> nn.Module:
    """An `Aimv2VisionModel` that knows of each patch which letter and which cell it belongs to."""
    torch.manual_seed(seed)
    recipe = pretraining_recipe(steps, 2e-2)
    pages, _ = draw_pages(_WHITENED_PAGES, seed, _PATCHES)
    encoder = new_encoder(recipe, pages, torch.Generator().manual_seed(seed))
    heads = nn.ModuleList((nn.Linear(WIDTH, len(LETTERS)), nn.Linear(WIDTH, PER_PAGE)))
    optimizer = PretrainingOptimizer((encoder, heads), encoder.encoder.layers, recipe)
    cell_of_patch = _cell_of_patch()
    for step in range(steps):
        pixels, letters = draw_pages(BATCH, seed, _PATCHES, step)
        hidden_states = encoder(pixels).last_hidden_state.flatten(0, 1)  # [B·GRID², C]
        cells = cell_of_patch.repeat(len(pixels))
        targets = (letters[:, cell_of_patch].flatten(), cells)
        optimizer.step(sum(F.cross_entropy(head(hidden_states), target) for head, target in zip(heads, targets)))
        advance()
    return encoder


def pretrain_reader(
    encoder: nn.Module, seed: int, steps: int, device: str, advance: Callable[[], None]
) -> tuple[LacoForConditionalGeneration, float]:
    """The full-token model and its share of letters read; rounds of `steps` until `READS`, at most three."""
    torch.manual_seed(seed + 1)
    model = LacoForConditionalGeneration.from_parts(encoder, new_decoder(encoder), image_token_id=IMAGE, method=None)
    model.to(device).train()
    reads = 0.0
    for number in range(_ROUNDS):
        layers = nn.ModuleList((*model.vision_model.encoder.encoder.layers, *model.language_model.model.layers))
        optimizer = PretrainingOptimizer((model,), layers, pretraining_recipe(steps, 1e-2))
        for step in range(steps):
            pages = draw_pages(BATCH, seed, _READING, number * steps + step)
            optimizer.step(answer(model, batch_of(*pages, model.tokens_per_image)).loss)
            advance()
        reads = accuracy(model, seed)
        if reads >= READS:
            break
    return model, reads


def new_decoder(encoder: nn.Module) -> Qwen2ForCausalLM:
    """A fresh Qwen2: cells named by the encoder's own 2-D coordinates, queries and keys equal at the start."""
    model = Qwen2ForCausalLM(decoder_config())
    table = encoder.embeddings.build_2d_sincos_position_embedding(GRID, GRID, embed_dim=WIDTH)[0]  # [GRID², C]
    cells = table.view(CELLS, 2, CELLS, 2, WIDTH).mean((1, 3)).flatten(0, 1)  # [PER_PAGE, C]
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight.normal_(std=_EMBEDDING_STD)
        embeddings[FIRST_CELL:] = cells.to(embeddings)
        model.model.norm.weight.fill_(2 * _INITIALIZER_RANGE / _EMBEDDING_STD)  # even odds at the tied head
        for layer in model.model.layers:
            shared = nn.init.orthogonal_(torch.empty(WIDTH, WIDTH)) * _QK_SCALE
            layer.self_attn.q_proj.weight.copy_(shared)
            layer.self_attn.k_proj.weight.copy_(shared)
    return model


def decoder_config() -> Qwen2Config:
    """Two layers of the encoder's width."""
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=160,
        num_hidden_layers=_DECODER_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        initializer_range=_INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=0,
    )


def _cell_of_patch() -> torch.Tensor:
    """The cell that each patch belongs to: int64 [GRID²]."""
    rows = torch.arange(GRID) // 2
    return (rows[:, None] * CELLS + rows[None]).flatten()
