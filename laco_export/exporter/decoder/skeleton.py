"""A language model whose layers name their weights instead of reading them, for the time of a trace.

What :func:`skeleton` gives takes

::

    inputs_embeds [B, T, D]          right-padded: row b is seqlens_k[b] + 1 - past long
    seqlens_k [B] int32              positions of row b that are in use after this step, minus 1
    total_sequence_length [] int32   the longest of them: max(seqlens_k) + 1
    logit_positions [B, N, 1] int64  the positions of this step whose logits are asked for
    past_key_values                  its ``layers`` have ``keys`` and ``values`` [B, kv_heads, P, head_dim]
        -> logits [B, N, V], and the cache holds [B, kv_heads, max(P, total_sequence_length), head_dim]

which are the inputs of ONNX Runtime's ``GroupQueryAttention``: there is no attention mask, so a batch is padded on the
right, and each row continues at its own length. A past that is longer than needed is a buffer to write into.

What makes a family: ``self_attn`` with ``q_proj``, ``k_proj``, ``v_proj``, ``o_proj`` and perhaps ``q_norm`` and
``k_norm``; RMSNorm; rotary embedding of halves. Another layout is refused by
:func:`~laco_export.exportable.require_exportable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from ...exportable import head_dim
from ...models.transformers_versions import CACHE
from .placeholders import GatherPositions, GroupQueryAttention, PlaceholderLinear, RMSNorm, Weight

COSINES, SINES = "rotary.cosines", "rotary.sines"
HEAD = "lm_head"

Decode = Callable[..., torch.Tensor]
"""A step of the model that is traced: what it takes and gives is said above."""


def rotary_tables(language_model) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for every position of the context, float32 ``[positions, head_dim / 2]`` each.

    The two halves of a head turn by the same angles, so the table holds one; the family's scaling is in it.
    """
    config = language_model.config
    positions = torch.arange(config.max_position_embeddings)[None]
    cosines, sines = language_model.base_model.rotary_emb(torch.zeros(1), positions)  # [1, P, d]
    half = cosines.shape[-1] // 2
    return cosines[0, :, :half].float().contiguous(), sines[0, :, :half].float().contiguous()


@contextmanager
def skeleton(language_model) -> Iterator[Decode]:
    """Let the model compute shapes alone while the block runs, and give what computes a step; the model and its
    ``forward`` are as before afterwards."""
    trace = _Trace(language_model)
    with ExitStack() as undo:
        undo.callback(language_model.__dict__.pop, "forward", None)
        for name, module in language_model.named_modules():
            forward = trace.forward_of(name, module)
            if forward is not None:
                module.forward = forward  # on the instance, so that removing it brings the class's own back
                undo.callback(module.__dict__.pop, "forward")
        yield trace.decode


class _Trace:
    """The forwards of one traced model, and what the attentions share within a step."""

    def __init__(self, language_model):
        self.model = language_model
        self.config = language_model.config
        self.shared: tuple[torch.Tensor, ...] = ()
        self.attention_of = {name: layer.self_attn for name, layer in _layers(language_model)}

    def forward_of(self, name: str, module: nn.Module):
        if isinstance(module, nn.Linear):
            return lambda hidden: PlaceholderLinear.apply(hidden, (name,), module.out_features)
        if name in self.attention_of:
            return partial(self.attend, name, module)
        if type(module).__name__.endswith("RMSNorm"):
            return lambda hidden: RMSNorm.apply(hidden, name, module.variance_epsilon, 0)
        return None

    def decode(self, inputs_embeds, seqlens_k, total_sequence_length, logit_positions, past_key_values):
        table = (self.config.max_position_embeddings, head_dim(self.config) // 2)
        rotary = [Weight.apply(inputs_embeds, name, *table) for name in (COSINES, SINES)]
        self.shared = (seqlens_k, total_sequence_length, *rotary)
        outputs = self.model.base_model(
            inputs_embeds=inputs_embeds,
            attention_mask=inputs_embeds.new_zeros(1, 1, 1, 1),  # four axes: taken as it is, and nothing reads it
            use_cache=True,
            **{CACHE: past_key_values},
        )
        wanted = GatherPositions.apply(outputs.last_hidden_state, logit_positions)  # [B, N, D]
        return self.model.lm_head(wanted)

    def attend(self, name, module, hidden_states, **options):
        past_key_values = options[CACHE]
        config = self.config
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        projections = [f"{name}.{kind}_proj" for kind in "qkv"]
        sizes = [getattr(module, f"{kind}_proj").out_features for kind in "qkv"]
        if hasattr(module, "q_norm"):
            query, key, value = (PlaceholderLinear.apply(hidden_states, (p,), n) for p, n in zip(projections, sizes))
            query = RMSNorm.apply(query, f"{name}.q_norm", module.q_norm.variance_epsilon, heads)
            key = RMSNorm.apply(key, f"{name}.k_norm", module.k_norm.variance_epsilon, kv_heads)
            packed = torch.cat([query, key, value], dim=-1)
        else:
            packed = PlaceholderLinear.apply(hidden_states, tuple(projections), sum(sizes))  # [B, T, (H + 2 K) d]
        layer = past_key_values.layers[module.layer_idx]
        mixed, layer.keys, layer.values = GroupQueryAttention.apply(
            packed, layer.keys, layer.values, *self.shared, heads, kv_heads, float(module.scaling)
        )
        return module.o_proj(mixed), None


def _layers(language_model):
    for name, _ in language_model.named_modules():
        if name.endswith(".self_attn"):
            yield name, language_model.get_submodule(name.rpartition(".")[0])


def linear_layers(language_model) -> dict[str, nn.Linear]:
    """The linear layers of a language model by their modules' names, all but the head."""
    return {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and name != HEAD
    }


def products(language_model) -> list[tuple[str, ...]]:
    """The linear layers by what one product of the graph computes: q, k and v together, any other alone."""
    stacked = {
        kind: names
        for attention, layer in _layers(language_model)
        if not hasattr(layer.self_attn, "q_norm")
        for names in [tuple(f"{attention}.{kind}_proj" for kind in "qkv")]
        for kind in names
    }
    return list(dict.fromkeys(stacked.get(name, (name,)) for name in linear_layers(language_model)))
