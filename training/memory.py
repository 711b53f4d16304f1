"""How much memory a stage takes, before it is run.

Weights, gradients and optimiser states follow from the numbers of parameters. Activations are counted, not guessed: the
model's own forward pass runs on tensors without content (PyTorch's FakeTensor), and what autograd keeps for the
backward pass is added up. Not counted: the allocator's gaps, the libraries' workspaces, DDP's gradient buckets, and the
samples themselves (those of a forward pass on the device, those of its share of an optimiser step in main memory).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .optimizers import embedding_ids
from .parameter_groups import parameters_by_group, set_trainable
from .recipe import StageRecipe

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration

_FP32 = 4  # bytes: master weights, gradients and optimiser states


@dataclass(frozen=True)
class ForwardShape:
    """What one forward pass sees.

    Attributes:
        rows, tokens: of the prompt, [rows, tokens] with the visual ones.
        tiles: encoded by the vision tower.
        counted: positions of a row whose next token counts.
    """

    rows: int
    tokens: int
    tiles: int
    counted: int


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes in one process without sharding."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    build: Callable[[], LacoForConditionalGeneration], stage: StageRecipe, shape: ForwardShape
) -> MemoryEstimate:
    """The memory of a stage's training step.

    Args:
        build: makes the model; called where tensors have no content, so it must not read weights.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = build().train()
        set_trainable(model, stage.learning_rates)
        trained = [
            p for name, group in parameters_by_group(model).items() if name in stage.learning_rates for p in group
        ]
        count = sum(parameter.numel() for parameter in trained)
        activations = kept_activations(model, shape, precision=stage.precision)
        if stage.gradient_checkpointing:
            blocks = model.vision_model.num_blocks + model.config.text_config.num_hidden_layers
            model.gradient_checkpointing_enable({"use_reentrant": False})
            inputs = kept_activations(model, shape, precision=stage.precision)
            # The blocks' inputs, and the activations of the one block that is being computed again.
            activations = inputs + max(0, activations - inputs) // blocks
        logits_gradient = _FP32 * shape.rows * shape.counted * model.config.text_config.vocab_size
        states = 2 * count  # AdamW's two moments
        if stage.optimizer == "muon":
            embeddings = embedding_ids(model)
            states -= sum(p.numel() for p in trained if p.ndim == 2 and id(p) not in embeddings)
        return MemoryEstimate(
            weights=_FP32 * sum(parameter.numel() for parameter in model.parameters()),
            gradients=_FP32 * count,
            optimizer=_FP32 * states,
            activations=activations + logits_gradient,
        )


def kept_activations(model: LacoForConditionalGeneration, shape: ForwardShape, *, precision: str) -> int:
    """Bytes that autograd keeps of one forward pass, each piece of memory once and weights apart."""
    vision = model.config.vision_config
    device = next(model.parameters()).device
    size = model.vision_model.spec.image_size(vision)

    def run() -> None:
        embeddings = model.get_input_embeddings()(
            torch.zeros(shape.rows, shape.tokens, dtype=torch.long, device=device)
        )  # [B, T, D]
        if shape.tiles:
            features = model.get_image_features(torch.zeros(shape.tiles, vision.num_channels, *size, device=device))
            visual = features.to(embeddings).sum((0, 1))  # stands where the pictures' tokens are placed
            embeddings = embeddings + visual
        mask = torch.ones(shape.rows, 1, shape.tokens, shape.tokens, dtype=torch.bool, device=device)
        labels = torch.zeros(shape.rows, shape.counted, dtype=torch.long, device=device)
        positions = torch.arange(shape.counted, device=device)
        model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            labels=labels,
            shift_labels=labels,
            logits_to_keep=positions,
            use_cache=False,
        )

    return kept_bytes(model.parameters(), run, precision=precision)


def kept_bytes(parameters: Iterable[torch.Tensor], run: Callable[[], object], *, precision: str) -> int:
    """Bytes that autograd keeps of what ``run`` computes, each piece of memory once and ``parameters`` apart."""
    weights, kinds = set(), set()
    for parameter in parameters:
        weights.add(parameter.untyped_storage()._cdata)
        kinds.add(parameter.device.type)
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage
        return tensor

    autocast = torch.autocast(kinds.pop(), torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        run()
    return sum(storage.nbytes() for storage in storages.values())
