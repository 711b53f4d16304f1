"""Layers' weights to few bits, over text: each weight's rounding error is made good by the weights after it.

The text passes the layers once; each is rounded when it is met (:mod:`.compensation`) and handed on as it will be
shipped, so that later layers make good what earlier ones lost. Without text, or with eight bits, each weight goes to
the nearest number of its grid: a scale and a whole zero point a block (:func:`~..n_bits.grid_of_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...errors import ExportError
from ..n_bits import RoundedMatrix, centred_numbers, grid_of_blocks, pack_numbers, quantize_blocks, stack_rounded
from .compensation import LayerMoments, compensated
from .precision import DecoderPrecision, block_size_for
from .prompts import DecoderPrompt
from .skeleton import linear_layers

_ROWS = 448  # rounded at a time: what is worked out of them stays in a core's cache


def round_layers(
    language_model,
    precision: DecoderPrecision,
    prompts: Iterable[DecoderPrompt],
    eight_bit: frozenset[str] = frozenset(),
) -> Mapping[str, RoundedMatrix]:
    """The rounded matrix of each linear layer but the head, by its module's name.

    Args:
        prompts: text of one length; empty rounds each weight to the nearest.
        eight_bit: modules that keep eight bits.
    """
    layers = linear_layers(language_model)
    prompts = list(prompts)
    if not prompts or not precision.zero_points:
        return NearestMatrices(layers, precision, eight_bit)
    rounded: dict[str, RoundedMatrix] = {}
    moments = LayerMoments(precision)
    with torch.inference_mode(), ExitStack() as undo:
        for name, module in layers.items():
            module.forward = _rounding_forward(name, module, precision, eight_bit, moments, rounded)
            undo.callback(module.__dict__.pop, "forward")
        table = language_model.get_input_embeddings().weight
        embeds = torch.from_numpy(np.stack([prompt.embeds(table) for prompt in prompts]))  # [B, T, D]
        language_model.base_model(inputs_embeds=embeds.to(table.dtype), use_cache=False)
    return rounded


class NearestMatrices(Mapping):
    """Each matrix rounded to the nearest when it is asked for, so that no more than one is in memory."""

    def __init__(self, layers: Mapping[str, nn.Linear], precision: DecoderPrecision, eight_bit: frozenset[str]):
        self._layers, self._precision, self._eight_bit = layers, precision, eight_bit

    def __getitem__(self, name: str) -> RoundedMatrix:
        return _nearest(self._layers[name].weight, self._precision, name in self._eight_bit)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def require_finite(language_model) -> None:
    """Raise :class:`~laco_export.errors.ExportError` where a weight is inf or NaN, naming it."""
    for name, weight in language_model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise ExportError(
                "the language model has weights that are inf or NaN, which have no rounding",
                given=f"'{name}', {' x '.join(map(str, weight.shape))}",
                todo="train or download the checkpoint again",
            )


def bits_a_weight(matrices: Iterable[RoundedMatrix]) -> float:
    """What is stored of each weight in the mean, scales and zero points counted."""
    counts = [(matrix.nbytes * 8, len(matrix.blocks) * matrix.columns) for matrix in matrices]
    return sum(bits for bits, _ in counts) / max(sum(weights for _, weights in counts), 1)


def _rounding_forward(name, module, precision, eight_bit, moments, rounded):
    def forward(hidden):
        wide = name in eight_bit
        if wide:
            matrix = _nearest(module.weight, precision, True)
        else:
            matrix = compensated(module.weight.detach().float(), moments.of(hidden), precision)
        rounded[name] = matrix
        weight = torch.from_numpy(matrix.dequantized()).to(hidden.dtype)
        return functional.linear(hidden, weight, module.bias)

    return forward


def _nearest(weight: torch.Tensor, precision: DecoderPrecision, wide: bool) -> RoundedMatrix:
    """Each weight ``[N, K]`` to the nearest number of its block's grid."""
    rows, columns = weight.shape
    size = block_size_for(columns, precision.block_size)
    if wide or not precision.zero_points:
        bits = 8 if wide else precision.bits
        blocks, scales = quantize_blocks(weight.detach().float().numpy(), bits, size)
        return RoundedMatrix(blocks, scales.reshape(blocks.shape[:2]), None, bits, columns)
    count, bits = -(-columns // size), precision.bits
    parts = []
    for start in range(0, rows, _ROWS):
        part = weight[start : start + _ROWS].detach().float().numpy()
        blocks = np.zeros((len(part), count * size), np.float32)
        blocks[:, :columns] = part
        blocks = blocks.reshape(len(part), count, size)
        scales, zeros = grid_of_blocks(blocks, bits)
        parts.append(pack_numbers(centred_numbers(blocks, scales, zeros, bits), scales, zeros, bits, columns))
    return stack_rounded(parts)
