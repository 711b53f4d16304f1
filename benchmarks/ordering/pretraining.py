"""Before the arms: an encoder pretrained at its full token count, and a small causal decoder that reads from it.

As the tiny recipe's stage 0: the encoder learns patch by patch which letter and which cell stand there, and the decoder
reads pages in words, where each patch's token is the sum of its letter's and its cell's. Then the projector learns to
say the same of the encoder's patches, and all three together learn to read whole pages, until 90 % of the letters are
right. Muon takes them off the ground in minutes; the arms are trained with AdamW, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Aimv2VisionModel, Qwen2Config, Qwen2ForCausalLM

from laco_export.models import LacoForConditionalGeneration
from laco_training.counted_positions import keep_counted_positions
from laco_training.parameter_groups import set_trainable
from laco_training.tiny.encoder_pretraining import GRID, encoder_config, new_encoder, position_table
from laco_training.tiny.optimizers import PretrainingOptimizer
from laco_training.tiny.recipe import Pretraining

from .pages import CELLS, LETTERS, PER_PAGE, draw_pages
from .reader import BATCH, FIRST_CELL, FIRST_LETTER, IMAGE, VOCABULARY, DrawPages, accuracy, answer, batch_of

WIDTH, BLOCKS = 64, 12  # of the encoder; twelve blocks make 1/12, 1/6, 1/4, 1/2 and 1 whole blocks
READS = 0.90  # share of letters that the full-token reader must reach
_ENCODER_RATE, _DECODER_RATE, _READING_RATE = 4e-2, 2e-2, 5e-3  # Muon's; at 2e-2 the encoder took a third more steps
RATES = {"encoder": _ENCODER_RATE, "decoder": _DECODER_RATE, "reader": _READING_RATE}
_ROUNDS = 3  # of reading, at most
_DECODER_LAYERS = 2
_WHITENED_PAGES = 300
_EMBEDDING_STD, _INITIALIZER_RANGE, _QK_SCALE = 0.7, 0.05, 1.5  # as the tiny recipe's parts start
_PATCHES, _READING, _TRANSLATING = 1, 2, 3  # parts of the drawing key
_WORD_NOISE = 0.3  # beside embeddings of 0.7: the encoder will not speak exactly


def pretraining_recipe(steps: int, muon_learning_rate: float, blocks: int = BLOCKS) -> Pretraining:
    """The sizes of the encoder, with the steps of one part of the pretraining."""
    return Pretraining(WIDTH, 160, blocks, 4, steps, BATCH, 2e-3, muon_learning_rate)


def letters_of_patches(letters: torch.Tensor) -> torch.Tensor:
    """The letter that each patch belongs to: int64 [B, PER_PAGE] to int64 [B, GRID²]."""
    return letters[:, cell_of_patch()]


def pretrain_encoder(
    seed: int,
    steps: int,
    device: str,
    draw: DrawPages = draw_pages,
    *,
    blocks: int = BLOCKS,
    patch_answers: Callable[[torch.Tensor], torch.Tensor] = letters_of_patches,
) -> nn.Module:
    """An ``Aimv2VisionModel`` that knows of each patch what it shows and which cell it belongs to.

    Args:
        patch_answers: what a patch shows, out of ``len(LETTERS)`` at most.
    """
    torch.manual_seed(seed)
    recipe = pretraining_recipe(steps, _ENCODER_RATE, blocks)
    pages, _ = draw(_WHITENED_PAGES, seed, _PATCHES)
    encoder = new_encoder(recipe, pages, torch.Generator().manual_seed(seed)).to(device)
    heads = nn.ModuleList((nn.Linear(WIDTH, len(LETTERS)), nn.Linear(WIDTH, PER_PAGE))).to(device)
    optimizer = PretrainingOptimizer((encoder, heads), encoder.encoder.layers, recipe)
    cells_of_patches = cell_of_patch()
    for step in range(steps):
        pixels, letters = draw(BATCH, seed, _PATCHES, step)
        hidden_states = encoder(pixels.to(device)).last_hidden_state.flatten(0, 1)  # [B·GRID², C]
        cells = cells_of_patches.repeat(len(pixels))
        targets = (patch_answers(letters).flatten(), cells)
        optimizer.step(
            sum(F.cross_entropy(head(hidden_states), target.to(device)) for head, target in zip(heads, targets))
        )
    return encoder.cpu()


def pretrain_decoder(encoder: nn.Module, seed: int, steps: int) -> Qwen2ForCausalLM:
    """A decoder that finds a cell's tokens among all and says their letter; it has not seen a page.

    It reads a page in one token a patch and in one a cell by turns, as an LLM takes text of any length: one that had
    only met 64 tokens read 16 at chance, even in words, and in stage 1, where it is frozen, no arm could learn of it.
    """
    torch.manual_seed(seed + 1)
    decoder = new_decoder()
    optimizer = PretrainingOptimizer((decoder,), decoder.model.layers, pretraining_recipe(steps, _DECODER_RATE))
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        letters = torch.randint(len(LETTERS), (BATCH, PER_PAGE), generator=generator)
        optimizer.step(loss_in_words(decoder, letters, (GRID * GRID, PER_PAGE)[step % 2], generator))
    return decoder


def loss_in_words(decoder: nn.Module, letters: torch.Tensor, tokens: int, generator: torch.Generator) -> torch.Tensor:
    """The decoder's loss on pages in words, blurred: ``tokens`` is one for each patch or one for each cell."""
    embed, batch = decoder.get_input_embeddings(), batch_of(None, letters, tokens)
    ids, labels = (batch[name].to(decoder.device) for name in ("input_ids", "labels"))
    cells = cell_of_patch() if tokens == GRID * GRID else torch.arange(PER_PAGE)
    words = described(embed, letters.to(decoder.device), cells)
    words = words + _WORD_NOISE * torch.randn(words.shape, generator=generator).to(words)
    inputs = torch.cat((words, embed(ids[:, tokens:])), dim=1)  # [B, T, D]
    return decoder(inputs_embeds=inputs, **keep_counted_positions(labels), use_cache=False).loss


def described(embed: nn.Embedding, letters: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Each token in words, its letter's embedding and its cell's: letters [B, PER_PAGE] and cells [T] to [B, T, D]."""
    cells = cells.to(letters.device)
    return embed(FIRST_LETTER + letters[:, cells]) + embed(FIRST_CELL + cells)


def pretrain_reader(
    encoder: nn.Module, decoder: nn.Module, seed: int, steps: int, device: str
) -> tuple[LacoForConditionalGeneration, float]:
    """The full-token model and its share of letters read; rounds of ``steps`` until ``READS``, at most three."""
    torch.manual_seed(seed + 2)
    model = LacoForConditionalGeneration.from_parts(encoder, decoder, image_token_id=IMAGE, method=None)
    model.to(device).train()
    translate(model, seed, steps // 4)
    generator, reads = torch.Generator().manual_seed(seed), 0.0
    for number in range(_ROUNDS):
        for _ in read_pages(model, seed, steps, generator, first=number * steps):
            pass
        reads = accuracy(model, seed)
        print(f"seed {seed}: {reads:.1%} of the letters after {(number + 1) * steps} steps of reading", flush=True)
        if reads >= READS:
            break
    return model, reads


def read_pages(
    model: LacoForConditionalGeneration,
    seed: int,
    steps: int,
    generator: torch.Generator,
    *,
    first: int = 0,
    draw: DrawPages = draw_pages,
) -> Iterator[int]:
    """Train the whole model to read; yields the number of each step that is done, from 1.

    Args:
        generator: of the words beside the pages.
        first: pages of earlier steps are left out.
    """
    layers = nn.ModuleList((*model.vision_model.encoder.encoder.layers, *model.language_model.model.layers))
    optimizer = PretrainingOptimizer((model,), layers, pretraining_recipe(steps, _READING_RATE))
    for step in range(steps):
        pixels, letters = draw(BATCH, seed, _READING, first + step)
        loss = answer(model, batch_of(pixels, letters, model.tokens_per_image)).loss
        # Beside the pages, words of one token a cell: else the decoder forgets in these steps how to read 16.
        optimizer.step(loss + loss_in_words(model.language_model, letters, PER_PAGE, generator))
        yield step + 1


def new_reader(blocks: int = BLOCKS) -> LacoForConditionalGeneration:
    """The full-token model without pretraining."""
    encoder = Aimv2VisionModel(encoder_config(pretraining_recipe(1, 1.0, blocks)))
    return LacoForConditionalGeneration.from_parts(encoder, new_decoder(), image_token_id=IMAGE, method=None)


def translate(model: LacoForConditionalGeneration, seed: int, steps: int, draw: DrawPages = draw_pages) -> None:
    """Let the projector, and merges where there are any, say what the encoder knows in the decoder's words."""
    set_trainable(model, ("compressor", "projector"))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.0)
    cells = cell_of_patch() if model.tokens_per_image == GRID * GRID else torch.arange(PER_PAGE)
    for step in range(steps):
        pixels, letters = draw(BATCH, seed, _TRANSLATING, step)
        features = model.get_image_features(pixels.to(model.device))  # [B, T, D]
        words = described(model.get_input_embeddings(), letters.to(model.device), cells)
        F.mse_loss(features, words.detach()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.requires_grad_(True)


def new_decoder() -> Qwen2ForCausalLM:
    """A fresh Qwen2: cells named by the encoder's own 2-D coordinates, queries and keys equal at the start."""
    model = Qwen2ForCausalLM(decoder_config())
    cells = position_table(WIDTH).view(CELLS, 2, CELLS, 2, WIDTH).mean((1, 3)).flatten(0, 1)  # [PER_PAGE, C]
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


def cell_of_patch() -> torch.Tensor:
    """The cell that each patch belongs to: int64 [GRID²]."""
    rows = torch.arange(GRID) // 2
    return (rows[:, None] * CELLS + rows[None]).flatten()
