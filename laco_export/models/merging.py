"""Merges put inside a model that has none: what it was, with fewer tokens in its later blocks.

::

    published model, compression off  ─▶  the same weights, and a merge at each depth that starts as the average of its
                                          window; InternVL's window outside the encoder goes where the merge comes in

Nothing is trained here: distillation heals what averaging costs. A model that had a window outside gives its language
model as many tokens as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import nn

from ..errors import ConfigError
from .configuration import CompressionConfig, LacoConfig
from .initialization import average_merges
from .modeling import LacoForConditionalGeneration
from .projector import LacoProjector
from .vision import LacoVisionModel


def merge_inside(
    model: LacoForConditionalGeneration, at: str | Sequence[str], **compression
) -> LacoForConditionalGeneration:
    """A model of the same parts with a merge at each depth; the given one stays as it is and shares every tensor.

    Args:
        model: with compression off.
        at: the depth of the merge, or of the merges of a path (``1/4+3/4``); several give an elastic model.
        compression: further fields of :class:`~.configuration.CompressionConfig`; ``method`` stays ``laco``.

    Returns:
        the model in evaluation mode, with merges that are averages exactly. Where the projector read windows outside
        (``projector_window``), its first layer is folded over one token (:func:`fold_window`): the language model has
        as many tokens as before where a path's ratios multiply to the window, and fewer where to a multiple of it.

    Raises:
        ConfigError: the model merges already, or a path's merges do not make up whole windows of the projector's.
        DepthError: a depth that the encoder does not have.
    """
    model.config.compression_config.refuse_merges()
    depths = (at,) if isinstance(at, str) else tuple(at)
    merges = CompressionConfig(depths=depths, **compression)
    config = _with_merges(model.config, merges)
    vision_model = LacoVisionModel(config, encoder=model.vision_model.encoder)
    _place_like(vision_model.compressors, model.projector.linear_1.weight)
    projector = model.projector if model.config.projector_window == 1 else fold_window(model.projector, config)
    merged = LacoForConditionalGeneration.assembled(
        config, vision_model, projector, model.image_newline, model.language_model
    )
    average_merges(merged)
    return merged.eval()


@torch.no_grad()
def fold_window(projector: LacoProjector, config: LacoConfig) -> LacoProjector:
    """A projector over windows of r² tokens, folded over the one token that a merge makes of each.

    For r² equal tokens x, the norm of their concatenation is the norm of x, r² times. With gains g, shifts s and first
    weights W, cut by position p::

        W' = Σₚ Wₚ diag(gₚ)        b' = b + Σₚ Wₚ sₚ

    on the norm of x without gain and shift gives the same; without a norm, W' = Σₚ Wₚ. Exact where the window's tokens
    are equal; where they are not, the norm's scale misses what their spread adds to it.

    Args:
        projector: with a window.
        config: of the folded model: ``projector_window`` 1.
    """
    positions = projector.window**2
    folded = LacoProjector(config)
    _place_like(folded, projector.linear_1.weight)
    weight = projector.linear_1.weight.double().unflatten(1, (positions, -1))  # [hidden, r², C]
    bias = projector.linear_1.bias.double()
    if projector.norm is not None:
        gain, shift = (values.double().unflatten(0, (positions, -1)) for values in projector.norm.parameters())
        bias = bias + torch.einsum("hpc,pc->h", weight, shift)
        weight = weight * gain
        folded.norm.eps = projector.norm.eps
        nn.init.ones_(folded.norm.weight)
        nn.init.zeros_(folded.norm.bias)
    folded.linear_1.weight.copy_(weight.sum(1))
    folded.linear_1.bias.copy_(bias)
    folded.linear_2 = projector.linear_2
    return folded


def _with_merges(config: LacoConfig, merges: CompressionConfig) -> LacoConfig:
    """The configuration with the merges in, and the projector's window out.

    Raises:
        ConfigError: a path's merges do not make up whole windows of the projector's.
    """
    window = config.projector_window
    paths = merges.resolved(config.num_encoder_blocks).paths
    if others := [path.total_ratio for path in paths if path.total_ratio % window]:
        raise ConfigError(
            "merges take the place of the projector's window only where they merge as many tokens, or whole windows",
            given=f"ratio {others[0]}, projector_window {window}",
            allowed=f"a ratio of {window}, or merges whose ratios multiply to a multiple of it",
        )
    values = config.to_dict()
    for name in ("vision_config", "text_config"):
        values[name] = getattr(config, name)
    values.update(compression=asdict(merges), projector_window=1, untrained=sorted({*config.untrained, "compressors"}))
    # A frame is scaled down less by what is merged beyond the window: LLaVA-OneVision's 27 x 27 tokens stay 14 x 14.
    merged_further = min(path.total_ratio for path in paths) // window
    values["video_pooling"] = max(1, config.video_pooling // merged_further)
    return LacoConfig(**values)


def _place_like(module: nn.Module, tensor: torch.Tensor) -> None:
    """Move a module to a tensor's dtype and device; one that is there is left alone: shapes without content
    (FakeTensor) cannot be moved."""
    if any((p.dtype, p.device) != (tensor.dtype, tensor.device) for p in module.parameters()):
        module.to(tensor)
