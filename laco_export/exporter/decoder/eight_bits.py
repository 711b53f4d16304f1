"""Which layers of a four-bit decoder keep eight bits: those whose rounding would cost most KL a byte.

What rounding one matrix costs alone is estimated for all of them at once, from one pass over text and one back. To
second order, an error ``e`` of a layer's output moves the distribution of the next token by a KL of half the mean
square of ``g · e``, where ``g`` is the gradient of the log-probability of a token that the model itself draws (the
Fisher information). On real models few matrices stand out.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from torch.nn import functional

from .precision import DecoderPrecision, block_size_for
from .prompts import DecoderPrompt
from .rounding import on_own_grid
from .skeleton import linear_layers, products

_TOKENS = 192  # of one prompt: the estimate's order, not its digits, is what is used


def choose_eight_bits(language_model, precision: DecoderPrecision, prompt: DecoderPrompt) -> dict[str, float]:
    """The modules that keep eight bits, with what each would cost alone in four, in nats a token.

    As many as :attr:`~.precision.DecoderPrecision.eight_bit_share` of the weights allows, dearest by the byte first,
    and none that rounding costs nothing.
    What one product of the graph computes keeps one width, so that it stays one: a layer's two products more, and the
    join of their outputs, are paid for at each step.
    """
    costs = expected_costs(language_model, precision, prompt)
    sizes = {name: language_model.get_submodule(name).weight.numel() for name in costs}
    left = precision.eight_bit_share * sum(sizes.values())

    def of_all(values: dict, names: tuple[str, ...]):
        return sum(values[name] for name in names)

    chosen = {}
    for names in sorted(products(language_model), key=lambda names: -of_all(costs, names) / of_all(sizes, names)):
        if of_all(sizes, names) > left or not of_all(costs, names):
            break
        left -= of_all(sizes, names)
        chosen |= {name: costs[name] for name in names}
    return chosen


def expected_costs(language_model, precision: DecoderPrecision, prompt: DecoderPrompt) -> dict[str, float]:
    """By module: the KL that rounding it alone is expected to cost, nats a token."""
    costs: dict[str, float] = {}
    layers = linear_layers(language_model)
    table = language_model.get_input_embeddings().weight
    embeds = torch.from_numpy(prompt.embeds(table)[None, :_TOKENS]).to(table.dtype).requires_grad_()
    with torch.enable_grad(), ExitStack() as undo:
        for name, module in layers.items():
            hook = module.register_forward_hook(_recorder(name, precision, costs))
            undo.callback(hook.remove)
        frozen = [parameter for parameter in language_model.parameters() if parameter.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
            undo.callback(parameter.requires_grad_, True)
        logits = language_model(inputs_embeds=embeds, use_cache=False).logits[0].float()  # [T, V]
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=torch.Generator().manual_seed(0))
        functional.cross_entropy(logits, drawn[:, 0], reduction="sum").backward()
    return costs


def _recorder(name: str, precision: DecoderPrecision, costs: dict[str, float]):
    def record(module, inputs, output):
        hidden = inputs[0].detach()

        def weigh(gradient):
            error = functional.linear(hidden, rounding_error(module.weight.detach(), precision).to(hidden.dtype))
            moved = (gradient.float() * error.float()).sum(-1)  # [1, T]
            costs[name] = float(moved.square().mean()) / 2

        output.register_hook(weigh)

    return record


def rounding_error(weight: torch.Tensor, precision: DecoderPrecision) -> torch.Tensor:
    """What rounding to the nearest number between each block's least and largest weight would add: ``[N, K]``; zeros
    where the weights lie on their own grid."""
    if on_own_grid(weight, precision) is not None:
        return torch.zeros_like(weight)
    rows, columns = weight.shape
    size = block_size_for(columns, precision.block_size)
    blocks = functional.pad(weight.float(), (0, -columns % size)).reshape(rows, -1, size)
    low, high = blocks.amin(-1, keepdim=True).clamp(max=0), blocks.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / ((1 << precision.bits) - 1)).clamp(min=float(np.finfo(np.float32).tiny) * 4)
    errors = (blocks / scale).round() * scale - blocks
    return errors.reshape(rows, -1)[:, :columns]
