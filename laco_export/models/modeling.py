"""The LaCo vision-language model as a transformers model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..depth import Depth
from ..errors import ConfigError
from ..token_grid import tokens_per_image
from . import checksums
from .configuration import CompressionConfig, LacoConfig
from .vision import LacoVisionModel


class LacoProjector(nn.Module):
    """LLaVA-OneVision's projector: Linear(C → D), GELU, Linear(D → D)."""

    def __init__(self, config: LacoConfig):
        super().__init__()
        hidden_size = config.projector_hidden_size or config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, hidden_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(hidden_size, config.text_config.hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[…, C]`` -> ``[…, D]``."""
        return self.linear_2(self.act(self.linear_1(features)))


class LacoForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Vision encoder with the merge inside, projector, and a transformers causal language model.

    Attributes:
        vision_model: :class:`LacoVisionModel`; ``.encoder`` is transformers' class, ``.compressors`` the merge layers.
        projector: :class:`LacoProjector`.
        language_model: transformers' own class for ``config.text_config`` (``Qwen2ForCausalLM``, …).
    """

    config_class = LacoConfig
    config: LacoConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _skip_keys_device_placement = "past_key_values"
    _tied_weights_keys = ["language_model.lm_head.weight"]
    _no_split_modules = ["Aimv2EncoderLayer", "SiglipEncoderLayer", "CLIPEncoderLayer", "InternVLVisionLayer"]
    # The language model brings its own; transformers collects them from the submodules.

    def __init__(self, config: LacoConfig):
        super().__init__(config)
        self.vision_model = LacoVisionModel(config)
        self.projector = LacoProjector(config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    @classmethod
    def from_parts(
        cls,
        encoder: PreTrainedModel,
        language_model: PreTrainedModel,
        *,
        image_token_id: int,
        at: str = "1/2",
        method: str | None = "laco",
        feature_layer: int | None = None,
        **compression,
    ) -> LacoForConditionalGeneration:
        """Start a model from a pretrained encoder and a pretrained language model.

        The compressor and the projector are freshly initialised (torch's default, as LLaVA does) and named in
        ``config.untrained`` until a training stage has trained them.

        Args:
            encoder: a transformers vision model without a pooling head.
            language_model: a transformers causal language model.
            image_token_id: the id of ``<|image_pad|>`` in the language model's vocabulary.
            at: the depth of the merge.
            method: a compressor's name, or None to keep all tokens.
            feature_layer: see :class:`LacoConfig`.
            compression: further fields of :class:`CompressionConfig`.
        """
        config = LacoConfig(
            vision_config=encoder.config,
            text_config=language_model.config,
            compression=CompressionConfig(method=method, depths=(at,) if method else (), **compression),
            image_token_id=image_token_id,
            feature_layer=feature_layer,
            untrained=["compressors", "projector"] if method else ["projector"],
        )
        with torch.device("meta"):  # nothing of the given parts' size is allocated twice
            model = cls(config)
        model.vision_model = LacoVisionModel(config, encoder=encoder)
        model.projector = LacoProjector(config)
        model.language_model = language_model
        model.generation_config = language_model.generation_config
        return model

    def _init_weights(self, module: nn.Module) -> None:
        # Called for the modules that are ours alone; the encoder and the language model initialise their own.
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_output_embeddings(value)

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def set_depth(self, depth: Depth | str) -> int:
        """Choose the depth among those that the checkpoint carries; returns the block that it stands after."""
        return self.vision_model.set_depth(depth)

    @property
    def tokens_per_image(self) -> int:
        """Visual embeddings of one picture."""
        ratio = self.config.compression["ratio"] if self.config.compression["method"] else 1
        return tokens_per_image(self.vision_model.grid, ratio)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Pictures ``[num_images, 3, H, W]`` to visual embeddings ``[num_images, tokens, D]``."""
        return self.projector(self.vision_model(pixel_values.to(self.projector.linear_1.weight.dtype)))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Next-token logits, and the loss where ``labels`` are given.

        Args:
            input_ids: ``[B, T]`` int64, with ``image_token_id`` at every position of a visual embedding.
            pixel_values: ``[num_images, 3, H, W]``, all pictures of the batch in reading order.
            labels: ``[B, T]`` int64, -100 where no loss is taken.
            kwargs: what the language model's own ``forward`` takes (KV cache, positions, ``logits_to_keep``, …).

        Raises:
            ConfigError: the number of image tokens is not that of the visual embeddings.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # [B, T, D]
            if pixel_values is not None:
                inputs_embeds = self._place_images(input_ids, inputs_embeds, self.get_image_features(pixel_values))
        elif pixel_values is not None:
            raise ValueError("pixel_values need input_ids: the image tokens say where the pictures stand")
        return self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs)

    def _place_images(self, input_ids: Tensor, inputs_embeds: Tensor, features: Tensor) -> Tensor:
        is_image = input_ids == self.config.image_token_id  # [B, T]
        expected, given = features.shape[0] * features.shape[1], int(is_image.sum())
        if given != expected:
            raise ConfigError(
                "image tokens and pictures do not match",
                given=f"{given} image tokens for {features.shape[0]} pictures",
                allowed=f"{features.shape[1]} tokens a picture, {expected} in all",
            )
        return inputs_embeds.masked_scatter(is_image.unsqueeze(-1), features.to(inputs_embeds.dtype))

    def prepare_inputs_for_generation(self, input_ids, pixel_values=None, cache_position=None, **kwargs):
        inputs = super().prepare_inputs_for_generation(input_ids, cache_position=cache_position, **kwargs)
        if cache_position is None or cache_position[0] == 0:  # later steps have the pictures in the KV cache
            inputs["pixel_values"] = pixel_values
        return inputs

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """transformers' ``save_pretrained`` (safetensors), plus a checksum of each weight file.

        Safetensors carries none, so a flipped bit would otherwise load as another model.
        """
        kwargs["safe_serialization"] = True
        super().save_pretrained(save_directory, **kwargs)
        checksums.write(Path(save_directory))
