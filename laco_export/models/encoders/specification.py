"""What the LaCo model needs to know of a vision encoder.

These files meet transformers' differences between encoders, and theirs between its releases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from ...errors import ConfigError, check_whole
from ...exportable import ACTIVATIONS
from ...preprocessing import ImagePreprocessing

PICTURE_CHANNELS = 3
"""RGB: what a picture is decoded to."""


@dataclass(frozen=True)
class OriginalLayout:
    """How a publisher's own checkpoint folder maps to transformers' class.

    Attributes:
        model_types: ``model_type`` values of its ``config.json``.
        config: its ``config.json`` to keyword arguments of transformers' configuration class.
        renames: ``(pattern, replacement)`` pairs for :func:`re.sub`, each applied in order to a tensor's name.
        fused_qkv: pattern, on the renamed name, of tensors that hold query, key and value stacked; ``qkv`` becomes
            ``q_proj``, ``k_proj``, ``v_proj``.
        squeezed: names whose leading dimension of 1 is dropped.
    """

    model_types: tuple[str, ...]
    config: Callable[[dict], dict]
    renames: tuple[tuple[str, str], ...]
    fused_qkv: str = r"\.qkv\."
    squeezed: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncoderSpec:
    """Where a transformers vision class keeps its parts.

    Attributes:
        model_type: ``model_type`` of the class's configuration.
        model_class: the class, imported when first asked for.
        embed: ``(encoder, pixel_values [B, 3, H, W]) -> hidden_states [B, prefix + N, C]``.
        blocks: path of the block list inside the encoder, as in ``encoder.get_submodule``.
        final_norm: path of the final norm, or None where the class's features are taken without one.
        call_block: runs one block on hidden states ``[B, prefix + N, C]``.
        mlp_matrices: weight matrices of a block's MLP: 2, or 3 with a gate (SwiGLU).
        prefix_tokens: tokens before the patches (CLS): they bypass the merge and are dropped at the end.
        headless: configuration fields that leave out the pooling head, set when an encoder's folder is loaded.
        required: further configuration fields that must have these values (learned positions, …).
        square_only: transformers' class fails on pictures that are not square.
        skipped: patterns of stored tensors that are not the encoder's (a text tower, a pooling head).
        original: the publisher's own layout, where it is another than transformers'.
        resize, mean, std: the published preprocessing.
        adopt: a model of transformers' class as one of ``model_class``, where that is another (:mod:`.vision_level`).
        stored_name: the name in ``model_class`` of a tensor that any transformers stored.
    """

    model_type: str
    model_class: Callable[[], type[PreTrainedModel]]
    embed: Callable[[nn.Module, Tensor], Tensor]
    blocks: str
    final_norm: str | None
    call_block: Callable[[nn.Module, Tensor], Tensor]
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mlp_matrices: int = 2
    prefix_tokens: int = 0
    headless: dict[str, Any] = field(default_factory=dict)
    required: dict[str, Any] = field(default_factory=dict)
    square_only: bool = False
    skipped: tuple[str, ...] = ()
    original: OriginalLayout | None = None
    adopt: Callable[[PreTrainedModel], PreTrainedModel] = lambda encoder: encoder
    stored_name: Callable[[str], str] = lambda name: name

    def check(self, config: PretrainedConfig) -> None:
        """Raise :class:`ConfigError` when the configuration asks for a form that LaCo cannot merge in or export."""
        for name, value in {**self.headless, **self.required}.items():
            if (actual := getattr(config, name, None)) != value:  # SigLIP's class takes a missing field as a head
                raise ConfigError(f"vision_config.{name} must be {value}", given=actual)
        self._check_exportable(config)
        height, width = self.image_size(config)
        if self.square_only and height != width:
            raise ConfigError(
                f"vision_config.image_size of {self.model_type} must be square",
                given=[height, width],
                todo="choose a square size and let the preprocessing resize, or tile the picture into squares",
            )

    def _check_exportable(self, config: PretrainedConfig) -> None:
        if config.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                "vision_config.hidden_act cannot be exported", given=config.hidden_act, allowed=", ".join(ACTIVATIONS)
            )
        if config.num_channels != PICTURE_CHANNELS:
            raise ConfigError(
                "vision_config.num_channels is not a picture's", given=config.num_channels, allowed=PICTURE_CHANNELS
            )
        for name in ("image_size", "patch_size"):
            size = getattr(config, name)
            for side in size if isinstance(size, (list, tuple)) and len(size) == 2 else (size,):
                check_whole(f"vision_config.{name}", side)
        height, width = _pair(config.patch_size)
        if height != width:
            raise ConfigError("vision_config.patch_size must be square", given=[height, width])

    def grid(self, config: PretrainedConfig) -> tuple[int, int]:
        """The token grid ``(H, W)`` before any merge; a rest smaller than a patch is not seen (SigLIP's 384 px: 27)."""
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
