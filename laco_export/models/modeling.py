"""The LaCo vision-language model as a transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .. import checksums
from ..depth import Depth
from ..errors import ConfigError
from ..layout_rules import DEFAULT_TOKEN_LAYOUT, SINGLE_TILE, ImageSize
from ..merge_path import DepthPath, MergePath
from ..tiling import Tiling
from ..token_grid import merged_grid
from ..token_layouts import TokenLayout, check_token_layout, layouts
from .configuration import CompressionConfig, LacoConfig
from .projector import LacoProjector
from .transformers_versions import CACHE, tied_weights_keys
from .vision import LacoVisionModel


def _newline(config: LacoConfig) -> Tensor:
    width = config.text_config.hidden_size
    return torch.randn(width) / width**0.5  # as LLaVA-OneVision initialises its own


def _cached_tokens(past_key_values: Cache | None) -> int:
    return 0 if past_key_values is None else past_key_values.get_seq_length()


class LacoForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Vision encoder with the merge inside, projector, and a transformers causal language model.

    Attributes:
        vision_model: :class:`LacoVisionModel`; ``.encoder`` is transformers' class, ``.compressors`` the merge layers.
        projector: :class:`LacoProjector`.
        image_newline: ``[D]``, ends each row of a tiled picture; None where no tiling asks for it.
        language_model: transformers' own class for ``config.text_config`` (``Qwen2ForCausalLM``, …).
    """

    config_class = LacoConfig
    config: LacoConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _skip_keys_device_placement = [CACHE]
    _tied_weights_keys = tied_weights_keys(
        {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}
    )
    # The tower stays on one device: its CLS token and the compressor's output are joined there. The language model
    # brings its own layers; transformers collects them from the submodules.
    _no_split_modules = ["LacoVisionModel"]

    def __init__(self, config: LacoConfig):
        super().__init__(config)
        self.vision_model = LacoVisionModel(config)
        self.projector = LacoProjector(config)
        self.image_newline = nn.Parameter(_newline(config)) if config.has_newline else None
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    @classmethod
    def from_parts(
        cls,
        encoder: PreTrainedModel,
        language_model: PreTrainedModel,
        *,
        image_token_id: int,
        at: str | Sequence[str] = "1/2",
        method: str | None = "laco",
        feature_layer: int | None = None,
        tiling: Mapping | None = None,
        video_pooling: int = 1,
        token_layout: str = DEFAULT_TOKEN_LAYOUT,
        projector: Mapping | None = None,
        **compression,
    ) -> LacoForConditionalGeneration:
        """Start a model from a pretrained encoder and a pretrained language model.

        The compressor and the projector are freshly initialised (torch's default, as LLaVA does) and named in
        ``config.untrained`` until a training stage has trained them.

        Args:
            encoder: a transformers vision model without a pooling head.
            language_model: a transformers causal language model.
            image_token_id: the id of ``<|image_pad|>`` in the language model's vocabulary.
            at: the depth of the merge, or of the merges of a path (``1/4+3/4``); several give an elastic checkpoint,
                each with compressors of its own.
            method: a compressor's name, or None to keep all tokens.
            feature_layer, tiling, video_pooling, token_layout: see :class:`LacoConfig`.
            projector: its ``projector_…`` fields, without those words: ``norm``, ``act``, ``window``, ``hidden_size``.
            compression: further fields of :class:`CompressionConfig`.
        """
        depths = () if method is None else (at,) if isinstance(at, str) else tuple(at)
        config = LacoConfig(
            vision_config=encoder.config,
            text_config=language_model.config,
            compression=CompressionConfig(method=method, depths=depths, **compression),
            image_token_id=image_token_id,
            feature_layer=feature_layer,
            tiling=tiling,
            video_pooling=video_pooling,
            token_layout=token_layout,
            **{f"projector_{name}": value for name, value in (projector or {}).items()},
            untrained=[
                *(["compressors"] if method else []),
                "projector",
                *(["image_newline"] if tiling and Tiling.from_mapping(tiling).has_newline else []),
            ],
        )
        vision_model, projector = LacoVisionModel(config, encoder=encoder), LacoProjector(config)
        newline = nn.Parameter(_newline(config)) if config.has_newline else None
        return cls.assembled(config, vision_model, projector, newline, language_model)

    @classmethod
    def assembled(
        cls,
        config: LacoConfig,
        vision_model: LacoVisionModel,
        projector: LacoProjector,
        image_newline: nn.Parameter | None,
        language_model: PreTrainedModel,
    ) -> LacoForConditionalGeneration:
        """The model of parts that were built for ``config``, none of them copied."""
        with torch.device("meta"):  # nothing of the given parts' size is allocated twice
            model = cls(config)
        model.vision_model = vision_model
        model.projector = projector
        model.image_newline = image_newline
        model.language_model = language_model
        model.generation_config = language_model.generation_config
        return model

    def _init_weights(self, module: nn.Module) -> None:
        # Called for the modules that are ours alone; the encoder and the language model initialise their own.
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Conv2d)):
            module.reset_parameters()
        elif module is self and self.image_newline is not None:
            self.image_newline.data.copy_(_newline(self.config))

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

    def enable_tiling(self, tiling: Mapping) -> None:
        """Let single pictures be tiled from now on, or otherwise than before; a newline that is missing is fresh.

        Args:
            tiling: fields of :class:`~laco_export.tiling.Tiling`; ``tile`` is the encoder's input.
        """
        check_token_layout(self.config.token_layout, Tiling.from_mapping(tiling))
        self.config.tiling = dict(tiling)
        if self.image_newline is None and self.config.has_newline:
            self.image_newline = nn.Parameter(_newline(self.config).to(self.projector.linear_2.weight))
            self.config.untrained = [*self.config.untrained, "image_newline"]

    def set_depth(self, depth: DepthPath | Depth | str) -> MergePath:
        """Choose the path of merges (``1/2``, ``1/4+3/4``) among those that the checkpoint carries; returns it."""
        return self.vision_model.set_depth(depth)

    @property
    def tokens_per_image(self) -> int:
        """Visual embeddings of one tile."""
        height, width = self.token_grid
        return height * width

    @property
    def token_grid(self) -> tuple[int, int]:
        """A tile's visual embeddings as rows and columns: what the merge and the projector's window leave."""
        return merged_grid(*self.vision_model.merged_grid, self.config.projector_window)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Tiles ``[tiles, 3, H, W]`` to visual embeddings ``[tiles, tokens, D]``; an untiled picture is one tile.

        Raises:
            ConfigError: the tiles are not of the encoder's input size.
        """
        vision = self.config.vision_config
        shape = (vision.num_channels, *self.vision_model.spec.image_size(vision))
        if tuple(pixel_values.shape[1:]) != shape:
            raise ConfigError(
                "pixel_values are not the encoder's input",
                given=list(pixel_values.shape),
                allowed=f"[tiles, {', '.join(map(str, shape))}]: vision_config.num_channels and image_size",
                todo="prepare the pictures with this checkpoint's processor",
            )
        hidden_states = self.vision_model(pixel_values.to(self.projector.linear_1.weight.dtype))
        return self.projector(hidden_states, self.vision_model.merged_grid)

    def pack_image_features(self, features: Tensor, image_sizes: Tensor) -> list[Tensor]:
        """The tiles' embeddings as each picture's tokens in the prompt (see :mod:`laco_export.tiling`).

        Args:
            features: ``[tiles, tokens, D]``, all tiles of all pictures in order.
            image_sizes: int ``[num_images, 2]``: (height, width) of a tiled picture, or a marker of
                :mod:`laco_export.layout_rules`.

        Returns:
            one ``[n_i, D]`` per picture.
        """
        plans = self._layouts(image_sizes, len(features))
        packed = []
        for plan, tiles in zip(plans, features.split([plan.tiles for plan in plans]), strict=True):
            flat = tiles.flatten(0, 1)  # [tiles·T, D]
            if self.image_newline is not None:
                flat = torch.cat((flat, self.image_newline.to(flat)[None]))  # index tiles·T is the newline
            indices = torch.from_numpy(plan.indices).to(flat.device)  # [n, k]
            if indices.shape[1] == 1:
                packed.append(flat[indices[:, 0]])
            else:
                weights = torch.from_numpy(plan.weights).to(flat)
                packed.append((flat[indices] * weights[..., None]).sum(1))  # [n, k, D] -> [n, D]
        return packed

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        logits_to_keep: int | Tensor | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Next-token logits, and the loss where ``labels`` are given.

        Args:
            input_ids: ``[B, T]`` int64, with ``image_token_id`` at every position of a visual embedding.
            pixel_values: ``[tiles, 3, H, W]``, the tiles of all pictures of the batch in reading order.
            image_sizes: int ``[num_images, 2]``, as the processor gives it; None: every picture is one tile.
            labels: ``[B, T]`` int64, -100 where no loss is taken.
            position_ids, past_key_values, logits_to_keep, kwargs: what the language model's own ``forward`` takes.
                Those named here are named for ``generate``, which looks for them.
            cache: what newer releases of transformers call ``past_key_values``.

        Raises:
            ConfigError: the image tokens of a prompt are not those of its pictures.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        past_key_values = cache if past_key_values is None else past_key_values
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # [B, T, D]
            if pixel_values is not None:
                features = self.get_image_features(pixel_values)  # [tiles, tokens, D]
                images = self.pack_image_features(features, self._sizes(pixel_values, image_sizes))
                self._check_context(input_ids, attention_mask, position_ids)
                inputs_embeds = self._place_images(input_ids, inputs_embeds, images)
            elif _cached_tokens(past_key_values) == 0:  # a prompt, not what has just been generated
                self._pictures_of_prompts(input_ids, [])
        elif pixel_values is not None:
            raise ValueError("pixel_values need input_ids: the image tokens say where the pictures stand")
        named = {"position_ids": position_ids, CACHE: past_key_values, "logits_to_keep": logits_to_keep}
        kwargs.update({name: value for name, value in named.items() if value is not None})
        return self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs)

    def token_layouts(self, image_sizes: Sequence[ImageSize]) -> list[TokenLayout]:
        """Each picture's token layout, from its ``image_sizes`` entry (:mod:`laco_export.layout_rules`)."""
        return layouts(
            image_sizes,
            grid=self.token_grid,
            tiling=self.config.tiling_config,
            video_pooling=self.config.video_pooling,
            token_layout=self.config.token_layout,
        )

    def _sizes(self, pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
        return torch.tensor([SINGLE_TILE] * len(pixel_values)) if image_sizes is None else image_sizes

    def _layouts(self, image_sizes: Tensor, tiles: int) -> list[TokenLayout]:
        plans = self.token_layouts(image_sizes.tolist())
        if (expected := sum(plan.tiles for plan in plans)) != tiles:
            raise ConfigError("pixel_values and image_sizes do not match", given=f"{tiles} tiles", allowed=expected)
        return plans

    def _pictures_of_prompts(self, input_ids: Tensor, lengths: list[int]) -> list[range]:
        """Which pictures stand in each row of ``input_ids [B, T]``, given every picture's number of tokens.

        Raises:
            ConfigError: a row's image tokens are not those of whole pictures, or pictures are left over.
        """
        tokens = (input_ids == self.config.image_token_id).sum(1).tolist()
        rows, last = [], 0
        for count in tokens:
            first = last
            while count > 0 and last < len(lengths):
                count -= lengths[last]
                last += 1
            if count:
                break
            rows.append(range(first, last))
        if len(rows) < len(tokens) or last < len(lengths):
            by_prompt = f", by prompt: {', '.join(map(str, tokens[:8]))}" if len(tokens) > 1 else ""
            raise ConfigError(
                "image tokens and pictures do not match",
                given=f"{sum(tokens)} image tokens for {len(lengths)} pictures{by_prompt}",
                allowed=f"{sum(lengths)} tokens: {', '.join(map(str, lengths[:8]))}" if lengths else "none",
                todo="give input_ids, pixel_values and image_sizes as the processor made them",
            )
        return rows

    def _check_context(self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None) -> None:
        """The language model's context holds every prompt; a row may be wider: padded, or packed with several prompts.

        Raises:
            ConfigError: a prompt is longer.
        """
        context = self.config.text_config.max_position_embeddings
        if (longest := input_ids.shape[1]) <= context:
            return
        if position_ids is not None:
            longest = int(position_ids.max()) + 1
        elif attention_mask is not None and attention_mask.ndim == 2:
            longest = int(attention_mask.sum(1).max())
        if longest > context:
            pictures = int((input_ids == self.config.image_token_id).sum(1).max())
            raise ConfigError(
                "the prompt is longer than the language model's context",
                given=f"{longest} tokens, {pictures} of them of pictures",
                allowed=f"text_config.max_position_embeddings: {context}",
                todo="give fewer pictures or frames, or smaller tiling grids",
            )

    def _place_images(self, input_ids: Tensor, inputs_embeds: Tensor, images: list[Tensor]) -> Tensor:
        self._pictures_of_prompts(input_ids, [len(image) for image in images])
        is_image = (input_ids == self.config.image_token_id).to(inputs_embeds.device)  # [B, T]
        features = torch.cat(images).to(inputs_embeds)  # [n, D]
        return inputs_embeds.masked_scatter(is_image.unsqueeze(-1), features)

    def prepare_inputs_for_generation(
        self, input_ids, pixel_values=None, image_sizes=None, inputs_embeds=None, **kwargs
    ):
        inputs = self.language_model.prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        if _cached_tokens(kwargs.get(CACHE)) == 0:  # later steps have the pictures in the cache
            inputs.update(pixel_values=pixel_values, image_sizes=image_sizes)
        return inputs

    def _supports_logits_to_keep(self) -> bool:
        return self.language_model._supports_logits_to_keep()

    def _expand_inputs_for_generation(
        self, expand_size=1, is_encoder_decoder=False, input_ids=None, pixel_values=None, image_sizes=None, **kwargs
    ):
        """Repeat each prompt for its beams or samples, and its pictures with it: tiles are not rows of the batch."""
        cached = _cached_tokens(kwargs.get(CACHE))
        if cached and (input_ids[:, cached:] == self.config.image_token_id).any():
            raise ConfigError(
                "past_key_values cannot be continued with new pictures",
                given=f"a cache of {cached} tokens and image tokens after them",
                todo="give the whole conversation without past_key_values",
            )
        if expand_size > 1 and pixel_values is not None:
            sizes = self._sizes(pixel_values, image_sizes)
            plans = self._layouts(sizes, len(pixel_values))
            rows = self._pictures_of_prompts(input_ids, [len(plan) for plan in plans])
            order = [picture for row in rows for _ in range(expand_size) for picture in row]
            tiles = pixel_values.split([plan.tiles for plan in plans])
            pixel_values, image_sizes = torch.cat([tiles[picture] for picture in order]), sizes[order]
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        return input_ids, {**kwargs, "pixel_values": pixel_values, "image_sizes": image_sizes}

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """transformers' ``save_pretrained`` (safetensors), plus a checksum of each weight file.

        Safetensors carries none, so a flipped bit would otherwise load as another model.
        """
        kwargs["safe_serialization"] = True
        super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):  # the one that writes the weights
            checksums.write_checksums(Path(save_directory))
