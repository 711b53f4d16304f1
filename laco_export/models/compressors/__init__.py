"""Token compressors: ``[B, H, W, C]`` in, ``[B, H/r, W/r, C]`` out, usable after any block.

One file per method; adding one is that file and one line in :data:`COMPRESSORS`.

- :mod:`.patch_merge`: LaCo's Patch Merge Layer, with and without its residual branch;
- :mod:`.space_to_channel`: the rearrangement that it starts from;
- :mod:`.average_pool`: the mean of each window;
- :mod:`.ldpv2`: MobileVLM V2's projector inside the encoder;
- :mod:`.token_packer`: attention within each window.
"""

from __future__ import annotations

from torch import nn

from ...errors import ConfigError
from .average_pool import AveragePool
from .ldpv2 import Ldpv2
from .patch_merge import LacoCompressor, LacoMisaligned, PixelShuffle
from .token_packer import TokenPacker

COMPRESSORS: dict[str, type[nn.Module]] = {
    "laco": LacoCompressor,
    "laco_misaligned": LacoMisaligned,
    "pixel_shuffle": PixelShuffle,
    "ldpv2": Ldpv2,
    "token_packer": TokenPacker,
    "average_pool": AveragePool,
}


def build_compressor(method: str, hidden_size: int, *, ratio: int, mlp_hidden_size: int | None) -> nn.Module:
    """A freshly initialised compressor.

    Raises:
        ConfigError: no method of that name.
    """
    if method not in COMPRESSORS:
        raise ConfigError("compression.method is unknown", given=method, allowed=", ".join(sorted(COMPRESSORS)))
    return COMPRESSORS[method](hidden_size, ratio, mlp_hidden_size or hidden_size)


__all__ = ["COMPRESSORS", "build_compressor"]
