"""What the LaCo model needs to know of a vision encoder.

This is the one place that meets transformers' differences between encoders and between its own releases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from ...errors import ConfigError
from ...preprocessing import ImagePreprocessing


@dataclass(frozen=True)
class EncoderSpec:
    """Where a transformers vision class keeps its parts.

    Attributes:
        model_type: ``model_type`` of the class's configuration.
        model_class: the class, imported when first asked for.
        embed: ``(encoder, pixel_values [B, 3, H, W]) -> hidden_states [B, prefix + N, C]``.
        blocks: path of the block list inside the encoder, as in ``encoder.get_submodule``.
        final_norm: path of the final norm.
        call_block: runs one block on hidden states ``[B, prefix + N, C]``.
        prefix_tokens: tokens before the patches (CLS): they bypass the merge and are dropped at the end.
        required: configuration fields that must have these values (no pooling head, fixed positions).
        resize, mean, std: the published preprocessing.
    """

    model_type: str
    model_class: Callable[[], type[PreTrainedModel]]
    embed: Callable[[nn.Module, Tensor], Tensor]
    blocks: str
    final_norm: str
    call_block: Callable[[nn.Module, Tensor], Tensor]
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    prefix_tokens: int = 0
    required: dict[str, Any] = field(default_factory=dict)

    def check(self, config: PretrainedConfig) -> None:
        """Raise :class:`ConfigError` when the configuration asks for a form that LaCo cannot merge in."""
        for name, value in self.required.items():
            if getattr(config, name, value) != value:
                raise ConfigError(f"vision_config.{name} must be {value}", given=getattr(config, name))
        height, width = self.image_size(config)
        patch = self.patch_size(config)
        if height % patch or width % patch:
            raise ConfigError(
                "vision_config.image_size is no multiple of patch_size", given=f"{height} x {width} and {patch}"
            )

    def grid(self, config: PretrainedConfig) -> tuple[int, int]:
        """The token grid ``(H, W)`` before any merge."""
        height, width = self.image_size(config)
        return height // self.patch_size(config), width // self.patch_size(config)

    def image_size(self, config: PretrainedConfig) -> tuple[int, int]:
        """The input's ``(height, width)`` in pixels."""
        return _pair(config.image_size)

    def patch_size(self, config: PretrainedConfig) -> int:
        return _pair(config.patch_size)[0]

    def preprocessing(self, config: PretrainedConfig) -> ImagePreprocessing:
        """The published image preprocessing at the configuration's resolution."""
        height, width = self.image_size(config)
        return ImagePreprocessing(height, width, self.resize, self.mean, self.std)


def _pair(value: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
