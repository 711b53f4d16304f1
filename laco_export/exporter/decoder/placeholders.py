"""The operators of a traced decoder: what reads a weight names it instead of holding it.

A decoder traced with its weights takes several copies of them in memory. These functions stand in for the layers while
:mod:`.skeleton` traces: they compute nothing but shapes, and each exports as one node that :mod:`.realize` turns into
what ONNX Runtime runs.

==========================  ====================================================================================
``laco::Linear``            ``hidden [B, T, K] -> [B, T, N]``; attributes ``weights`` (names, stacked) and ``size``
``laco::RMSNorm``           ``hidden [..., D] -> [..., D]`` over the last axis or, with ``heads``, over each head of it
``laco::Weight``            a named array: the rotary tables
``GroupQueryAttention``     of ``com.microsoft``: rotary embedding, cache, masking and attention, as it will be run
``GatherND``                of ONNX: the positions that the head looks at
==========================  ====================================================================================
"""

from __future__ import annotations

import torch


class PlaceholderLinear(torch.autograd.Function):
    """One or more ``nn.Linear`` of the same input, their outputs side by side."""

    @staticmethod
    def forward(ctx, hidden, names, size):
        return hidden.new_zeros(*hidden.shape[:-1], size)

    @staticmethod
    def symbolic(g, hidden, names, size):
        node = g.op("laco::Linear", hidden, weights_s=",".join(names), size_i=size)
        return _typed(node, hidden, last=size)


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, name, epsilon, heads):
        return hidden.clone()

    @staticmethod
    def symbolic(g, hidden, name, epsilon, heads):
        return _typed(g.op("laco::RMSNorm", hidden, weight_s=name, epsilon_f=epsilon, heads_i=heads), hidden)


class Weight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, like, name, rows, columns):
        return like.new_zeros(rows, columns)

    @staticmethod
    def symbolic(g, like, name, rows, columns):
        return g.op("laco::Weight", weight_s=name).setType(like.type().with_sizes([rows, columns]))


class GroupQueryAttention(torch.autograd.Function):
    """``qkv [B, T, (H + 2 K) d]`` and two caches ``[B, K, P, d]`` to ``[B, T, H d]`` and the caches with ``T`` more."""

    @staticmethod
    def forward(ctx, qkv, past_key, past_value, seqlens_k, total, cosines, sines, heads, kv_heads, scale):
        batch, length = qkv.shape[:2]
        head_size = past_key.shape[-1]
        grown = past_key.new_zeros(batch, kv_heads, past_key.shape[2] + length, head_size)
        return qkv.new_zeros(batch, length, heads * head_size), grown, grown.clone()

    @staticmethod
    def symbolic(g, qkv, past_key, past_value, seqlens_k, total, cosines, sines, heads, kv_heads, scale):
        none = g.op("prim::Constant")
        none.setType(torch._C.OptionalType.ofTensor())
        output, key, value = g.op(
            "com.microsoft::GroupQueryAttention",
            *(qkv, none, none, past_key, past_value, seqlens_k, total, cosines, sines),
            num_heads_i=heads,
            kv_num_heads_i=kv_heads,
            scale_f=scale,
            do_rotary_i=1,
            outputs=3,
        )
        _typed(output, qkv)
        for grown, past in ((key, past_key), (value, past_value)):
            grown.setType(past.type().with_sizes(None))  # the axes' names are the configuration's
        return output, key, value


class GatherPositions(torch.autograd.Function):
    """``hidden [B, T, D]`` at ``positions [B, N, 1]``: ``[B, N, D]``."""

    @staticmethod
    def forward(ctx, hidden, positions):
        return hidden.gather(1, positions.expand(-1, -1, hidden.shape[-1]))

    @staticmethod
    def symbolic(g, hidden, positions):
        return _typed(g.op("GatherND", hidden, positions, batch_dims_i=1), hidden)


def _typed(value, like, last: int | None = None):
    """Give an exported value the type of ``like`` with another last axis; the axes before it are not known."""
    sizes = like.type().sizes()
    return value.setType(like.type().with_sizes(sizes and [*[None] * (len(sizes) - 1), last or sizes[-1]]))
