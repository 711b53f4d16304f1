"""Floating-point operations of the vision tower by layer arithmetic.

A multiply-add counts as two. Matrix products and convolutions are counted; norms, activations, softmax and additions
are not (together below 1 % at the sizes of interest), which is also what ``torch.utils.flop_counter`` counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..merge_path import MergePath
from .configuration import LacoConfig
from .encoders import encoder_spec


@dataclass(frozen=True)
class VisionFlops:
    """Operations of one picture: patch embedding, blocks, merge, projector."""

    embeddings: int
    blocks: int
    compressor: int
    projector: int

    @property
    def total(self) -> int:
        return self.embeddings + self.blocks + self.compressor + self.projector


def vision_flops(config: LacoConfig, *, path: MergePath | None = None) -> VisionFlops:
    """Operations of the vision tower for one picture.

    Args:
        config: of the model; ``config.compression`` says what merges.
        path: the merges; None takes the first path that the checkpoint carries.
    """
    vision, compression = config.vision_config, config.compression_config
    spec, num_blocks = encoder_spec(vision.model_type), config.num_encoder_blocks
    path = path or (compression.paths[0] if compression.paths else MergePath((), ()))
    channels, hidden = vision.hidden_size, compression.mlp_hidden_size or vision.hidden_size
    tokens = [height * width for height, width in path.grids(spec.grid(vision))]  # before each merge, and at last
    bounds = (0, *path.blocks, num_blocks)
    blocks = sum(
        (last - first) * block_flops(config, spec.prefix_tokens + count)
        for first, last, count in zip(bounds, bounds[1:], tokens)
    )
    compressor = sum(
        COMPRESSOR_FLOPS[compression.method](after, channels, hidden, ratio**2)
        for after, ratio in zip(tokens[1:], path.ratios)
    )
    patch = spec.patch_size(vision)
    embeddings = 2 * tokens[0] * channels * vision.num_channels * patch * patch
    text = config.text_config.hidden_size
    projector_hidden = config.projector_hidden_size or text
    window = config.projector_window**2
    projector = 2 * (tokens[-1] // window) * (window * channels * projector_hidden + projector_hidden * text)
    return VisionFlops(embeddings, blocks, compressor, projector)


def block_flops(config: LacoConfig, tokens: int) -> int:
    """One block on ``tokens`` tokens: four attention projections, the MLP, and the two attention products."""
    vision = config.vision_config
    channels = vision.hidden_size
    matrices = encoder_spec(vision.model_type).mlp_matrices
    weights = 4 * channels * channels + matrices * channels * vision.intermediate_size
    return 2 * tokens * weights + 4 * tokens * tokens * channels


def _patch_merge(tokens: int, channels: int, hidden: int, window: int) -> int:
    return 2 * tokens * (window * channels * hidden + hidden * channels)


def _ldpv2(tokens: int, channels: int, hidden: int, window: int) -> int:
    return 2 * tokens * window * 2 * channels * hidden + 2 * tokens * channels * 9


def _token_packer(tokens: int, channels: int, hidden: int, window: int) -> int:
    square = channels * channels
    query = 2 * tokens * 3 * square  # query, its in-projection and the out-projection
    keys_values = 2 * tokens * window * 6 * square  # two-layer key and value, and their in-projections
    attention = 4 * tokens * window * channels
    return query + keys_values + attention + 2 * tokens * 2 * channels * hidden


COMPRESSOR_FLOPS = {
    "laco": _patch_merge,
    "laco_misaligned": _patch_merge,
    "pixel_shuffle": _patch_merge,
    "ldpv2": _ldpv2,
    "token_packer": _token_packer,
    "average_pool": lambda tokens, channels, hidden, window: 0,
}
"""Operations by method from ``(tokens after the merge, C, hidden width, r²)``."""
