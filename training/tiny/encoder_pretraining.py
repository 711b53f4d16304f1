"""Stage 0 of the encoder: transformers' Aimv2VisionModel at its full token count, taught patch by patch.

Each patch is asked what stands there (:data:`FIELDS`): which letter or shape, its colour, its number (a letter's index
in its word, a bar's value), a shape's place and how many shapes there are, a bar's rank. Linear heads answer and are
thrown away. Three starting values bring a small encoder off the ground in a minute of CPU time:

- the patch embedding whitens patches (PCA of training patches), so that strokes weigh as much as the background;
- the position embedding starts as AIMv2-native's 2-D sin-cos table, and is trained on;
- queries and keys start equal, so that attention starts near the patch's own place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase, digits

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from laco_export.atomic import new_directory
from laco_export.models.encoders.aimv2 import AIMV2
from laco_export.preprocessing import ImagePreprocessing, load_image

from ..data import IGNORED, read_entries
from ..step_callbacks import step_note
from .charts import HIGHEST
from .optimizers import PretrainingOptimizer, batches
from .recipe import Pretraining
from .scene import COLOURS, NOTHING, SIZE
from .shapes import MOST, PLACES, SHAPES

PATCH = 14
GRID = SIZE // PATCH
FIELDS: dict[str, tuple] = {
    "thing": (NOTHING, "bar", *SHAPES, *ascii_uppercase, *digits),
    "colour": tuple(COLOURS),
    "number": tuple(range(1, HIGHEST + 1)),
    "place": PLACES,
    "total": tuple(range(1, MOST + 1)),
    "rank": ("highest", "lowest", "between"),
}
_FIRST_CHARACTER = FIELDS["thing"].index("A")
_LEAST_COVER = 0.25  # of the patch or of the thing, whichever is smaller, for the patch to be asked about the thing
_PCA_PICTURES, _PCA_PATCHES = 1500, 20_000
_DAMPING = 0.1  # of the largest singular value: full whitening forgets brightness and learns colour late
_QK_SCALE = 1.5
_INITIALIZER_RANGE = 0.05  # transformers' 0.02 is made for widths near 1000


def pretrain_encoder(
    data_folder: Path,
    output: Path,
    recipe: Pretraining,
    *,
    seed: int,
    advance: Callable[..., None] = lambda *_, **__: None,
) -> list[float]:
    """Train on ``regions.json`` and write an ordinary transformers folder; returns the losses."""
    pixels, labels = load_regions(data_folder)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    normalize = _Normalize(AIMV2.preprocessing(encoder_config(recipe)))
    encoder = new_encoder(recipe, normalize(pixels[:_PCA_PICTURES]), generator)
    heads = nn.ModuleDict({name: nn.Linear(recipe.hidden_size, len(values)) for name, values in FIELDS.items()})
    optimizer = PretrainingOptimizer((encoder, heads), encoder.encoder.layers, recipe)
    losses = []
    for batch in batches(len(pixels), recipe.batch_size, recipe.steps, generator):
        hidden_states = encoder(normalize(pixels[batch])).last_hidden_state  # [B, GRID², C]
        loss = patch_loss(heads, hidden_states, {name: values[batch] for name, values in labels.items()})
        optimizer.step(loss)
        losses.append(round(loss.item(), 4))
        advance(1, note=step_note(losses[-1], optimizer.learning_rates))
    with new_directory(output) as partial:
        encoder.eval().save_pretrained(partial)
    return losses


def new_encoder(recipe: Pretraining, pixels: torch.Tensor, generator: torch.Generator) -> nn.Module:
    """A fresh ``Aimv2VisionModel`` with the starting values of the module's docstring.

    Args:
        pixels: [N, 3, SIZE, SIZE], normalised.
    """
    from transformers import Aimv2VisionModel

    encoder = Aimv2VisionModel(encoder_config(recipe))
    embeddings, width = encoder.embeddings, recipe.hidden_size
    with torch.no_grad():
        _whiten(embeddings.patch_embed, pixels, generator)
        embeddings.position_embedding.weight.copy_(position_table(width))
        for block in encoder.encoder.layers:
            shared = nn.init.orthogonal_(torch.empty(width, width)) * _QK_SCALE
            block.attention.q_proj.weight.copy_(shared)
            block.attention.k_proj.weight.copy_(shared)
    return encoder


def position_table(width: int) -> torch.Tensor:
    """float32 [GRID², ``width``]: sines and cosines of a patch's column and row, a quarter of the channels each, as
    AIMv2 has them where positions are computed (``is_native``)."""
    quarter, along = width // 4, torch.arange(GRID, dtype=torch.float32)
    frequencies = 1.0 / (10_000.0 ** (torch.arange(quarter, dtype=torch.float32) / quarter))
    columns, rows = torch.meshgrid(along, along, indexing="xy")
    angles = [place.flatten()[:, None] * frequencies for place in (columns, rows)]  # [GRID², quarter] each
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


def encoder_config(recipe: Pretraining):
    """The ``Aimv2VisionConfig`` of the recipe's sizes."""
    from transformers import Aimv2VisionConfig

    return Aimv2VisionConfig(
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        image_size=SIZE,
        patch_size=PATCH,
        use_head=False,
        initializer_range=_INITIALIZER_RANGE,
    )


def _whiten(patch_embed: nn.Conv2d, pixels: torch.Tensor, generator: torch.Generator) -> None:
    """Set the patch embedding to the strongest principal components of patches, scaled to even strength and mixed."""
    width = patch_embed.out_channels
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # [N, 3, GRID, GRID, PATCH, PATCH]
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)  # [N·GRID², 3·PATCH²]
    patches = patches[patches.std(1) > 0]
    mean = patches.mean(0)
    chosen = patches[torch.randperm(len(patches), generator=generator)[:_PCA_PATCHES]] - mean
    variances, components = torch.linalg.eigh(chosen.T @ chosen / len(chosen))  # ascending
    deviations = variances[-width:].clamp(min=0).sqrt().flip(0)
    components = components[:, -width:].flip(1).T  # [C, 3·PATCH²]
    mixing = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    weight = mixing @ (components / (deviations + _DAMPING * deviations[0])[:, None])
    patch_embed.weight.copy_(weight.view_as(patch_embed.weight))
    patch_embed.bias.copy_(-weight @ mean)


def patch_loss(heads: nn.ModuleDict, hidden_states: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum over the fields of the mean cross entropy, and once more for the patches that hold a letter or digit.

    Most patches are empty: without the second term reading would be a hundredth of the loss.

    Args:
        hidden_states: [B, GRID², C]; labels: int64 [B, GRID²] for each field, :data:`~laco_training.data.IGNORED` where
            nothing is asked.
    """
    total = hidden_states.new_zeros(())
    for name, head in heads.items():
        logits, target = head(hidden_states).flatten(0, 1), labels[name].flatten()  # [B·GRID², classes]
        if (target == IGNORED).all():  # no chart in the batch, say: the mean over nothing is not a number
            continue
        total = total + F.cross_entropy(logits, target, ignore_index=IGNORED)
        if name == "thing" and (written := target >= _FIRST_CHARACTER).any():
            total = total + F.cross_entropy(logits[written], target[written])
    return total


def load_regions(data_folder: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """All pictures of ``regions.json`` as uint8 [N, 3, SIZE, SIZE], and each field's labels as int64 [N, GRID²]."""
    entries = read_entries(data_folder / "regions.json")
    pixels = torch.empty(len(entries), 3, SIZE, SIZE, dtype=torch.uint8)
    labels = {name: np.full((len(entries), GRID * GRID), IGNORED) for name in FIELDS}
    for index, entry in enumerate(entries):
        picture = np.asarray(load_image(data_folder / entry["image"]))  # [SIZE, SIZE, 3]
        pixels[index] = torch.from_numpy(picture.transpose(2, 0, 1).copy())
        for name, values in patch_labels(entry["regions"]).items():
            labels[name][index] = values
    return pixels, {name: torch.from_numpy(values) for name, values in labels.items()}


def patch_labels(regions: list[dict]) -> dict[str, np.ndarray]:
    """Class indices [GRID²] of each field; a patch is asked about the thing that covers it best."""
    edges = np.arange(GRID) * PATCH
    labels = {name: np.full((GRID, GRID), IGNORED) for name in FIELDS}
    labels["thing"][:] = FIELDS["thing"].index(NOTHING)
    best = np.full((GRID, GRID), _LEAST_COVER)
    for region in regions:
        left, top, right, bottom = region["box"]
        across = np.clip(np.minimum(right, edges + PATCH) - np.maximum(left, edges), 0, None)
        down = np.clip(np.minimum(bottom, edges + PATCH) - np.maximum(top, edges), 0, None)
        cover = np.outer(down, across) / min(PATCH * PATCH, (right - left) * (bottom - top))
        better = cover > best
        best = np.where(better, cover, best)
        for name, values in FIELDS.items():
            labels[name][better] = values.index(region[name]) if name in region else IGNORED
    return {name: values.reshape(-1) for name, values in labels.items()}


class _Normalize:
    """The preprocessing's last step for a whole batch: uint8 [B, 3, H, W] to float32, pictures of SIZE x SIZE."""

    def __init__(self, preprocessing: ImagePreprocessing):
        self.mean = torch.tensor(preprocessing.mean)[:, None, None] * 255
        self.std = torch.tensor(preprocessing.std)[:, None, None] * 255

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() - self.mean) / self.std
