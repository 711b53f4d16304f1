"""The configuration of a LaCo checkpoint (``config.json``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from ..compression import CompressionConfig, blocks_up_to
from ..errors import ConfigError, check_whole
from ..layout_rules import DEFAULT_TOKEN_LAYOUT, LayoutRules, layout_rules
from ..stated_checkpoint import LACO_MODEL_TYPE
from ..tiling import Tiling
from ..token_grid import merged_grid
from ..token_layouts import check_token_layout
from .encoders import encoder_spec
from .stated_config import rope_as_stated


class LacoConfig(PretrainedConfig):
    """Configuration of :class:`~laco_export.models.LacoForConditionalGeneration`.

    Args:
        vision_config: configuration of the encoder's transformers class.
        text_config: configuration of the language model's transformers class.
        compression: fields of :class:`CompressionConfig`.
        image_token_id: the token that stands for one visual embedding (``<|image_pad|>``, 151655 in Qwen2.5).
        projector_hidden_size: width of the projector's hidden layer; None takes the language model's.
        projector_act: the projector's activation, of :data:`~.encoders.specification.ACTIVATIONS`.
        projector_norm: a LayerNorm stands before the projector's first layer (InternVL).
        projector_window: r: the projector reads r×r of the encoder's tokens side by side (InternVL's pixel-shuffle
            outside the encoder); 1 for token by token.
        feature_layer: which block's output the features are: None takes the last and the encoder's final norm; -2 drops
            the last block and the norm (LLaVA-OneVision's SigLIP), as indices of transformers' ``hidden_states``.
        tiling: fields of :class:`~laco_export.tiling.Tiling` where pictures are tiled, else None.
        token_layout: how the model's family lays out pictures and videos, a name of
            :data:`~laco_export.layout_rules.TOKEN_LAYOUTS`; stored where it is not ``laco``.
        video_pooling: each video frame's token grid is scaled down by this; 1 leaves what the merge gave.
        untrained: parts that no training stage has touched yet, of ``compressors``, ``projector``, ``image_newline``.
    """

    model_type = LACO_MODEL_TYPE
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    def __init__(
        self,
        vision_config: PretrainedConfig | Mapping | None = None,
        text_config: PretrainedConfig | Mapping | None = None,
        compression: CompressionConfig | Mapping | None = None,
        image_token_id: int = 151655,
        projector_hidden_size: int | None = None,
        projector_act: str = "gelu",
        projector_norm: bool = False,
        projector_window: int = 1,
        feature_layer: int | None = None,
        tiling: Mapping | None = None,
        video_pooling: int = 1,
        untrained: list[str] | None = None,
        token_layout: str = DEFAULT_TOKEN_LAYOUT,
        **kwargs,
    ):
        self.vision_config = _sub_config(vision_config or {"use_head": False}, "vision_config", "aimv2_vision_model")
        self.text_config = _sub_config(text_config, "text_config", "qwen2")
        self.image_token_id = image_token_id
        self.projector_hidden_size = projector_hidden_size
        self.projector_act = projector_act
        self.projector_norm = projector_norm
        self.projector_window = projector_window
        self.feature_layer = feature_layer
        self.tiling = dict(tiling) if tiling else None
        self.video_pooling = video_pooling
        self.untrained = list(untrained or [])
        self.token_layout = token_layout
        check_token_layout(token_layout, self.tiling_config)
        if not isinstance(compression, CompressionConfig):
            compression = CompressionConfig.from_mapping(compression or {})
        spec = encoder_spec(self.vision_config.model_type)
        spec.check(self.vision_config)
        compression = compression.resolved(self.num_encoder_blocks)
        self.compression = asdict(compression)
        self._check_projector()
        if self.tiling_config and spec.image_size(self.vision_config) != (self.tiling_config.tile,) * 2:
            raise ConfigError(
                "tiling.tile is not the encoder's input", given=tiling, allowed=spec.image_size(self.vision_config)
            )
        check_whole("video_pooling", video_pooling)
        check_whole("image_token_id", image_token_id, least=0)
        if projector_hidden_size is not None:
            check_whole("projector_hidden_size", projector_hidden_size)
        kwargs["tie_word_embeddings"] = getattr(self.text_config, "tie_word_embeddings", False)
        super().__init__(**kwargs)

    def _check_projector(self) -> None:
        from .encoders.specification import ACTIVATIONS

        if self.projector_act not in ACTIVATIONS:
            raise ConfigError("projector_act is unknown", given=self.projector_act, allowed=", ".join(ACTIVATIONS))
        check_whole("projector_window", self.projector_window)
        for height, width in self._merged_grids.values():
            if height % self.projector_window or width % self.projector_window:
                raise ConfigError(
                    "the projector's windows do not cover the token grid",
                    given=f"projector_window {self.projector_window}, grid {height} x {width}",
                    allowed="sides that are multiples of projector_window",
                )

    @property
    def num_encoder_blocks(self) -> int:
        """L: the encoder's blocks up to ``feature_layer``; depths are fractions of these."""
        return blocks_up_to(self.feature_layer, self.vision_config.num_hidden_layers)

    @property
    def layout_rules(self) -> LayoutRules:
        return layout_rules(self.token_layout)

    @property
    def token_grids(self) -> dict[str, tuple[int, int]]:
        """By depth the grid of a tile's visual embeddings, behind the path's merges and the projector's window; without
        merges one grid, named ``none``."""
        return {name: merged_grid(*grid, self.projector_window) for name, grid in self._merged_grids.items()}

    @property
    def token_grid(self) -> tuple[int, int]:
        """Of the first path, which a model has when it is made."""
        return next(iter(self.token_grids.values()))

    @property
    def _merged_grids(self) -> dict[str, tuple[int, int]]:
        """By depth what the path's merges leave of the encoder's token grid.

        Raises:
            ConfigError: a merge has no whole window.
        """
        compression = self.compression_config
        grid = encoder_spec(self.vision_config.model_type).grid(self.vision_config)
        if compression.method is None:
            return {"none": grid}
        return {name: path.grids(grid)[-1] for name, path in zip(compression.depths, compression.paths)}

    @property
    def tiling_config(self) -> Tiling | None:
        return Tiling.from_mapping(self.tiling) if self.tiling else None

    @property
    def has_newline(self) -> bool:
        """Whether a newline's embedding stands among the visual ones."""
        return self.tiling_config is not None and self.tiling_config.has_newline

    @property
    def compression_config(self) -> CompressionConfig:
        """With ``blocks`` filled in, also where ``from_pretrained(…, compression=…)`` has set the field."""
        return CompressionConfig.from_mapping(self.compression).resolved(self.num_encoder_blocks)


def _sub_config(value: PretrainedConfig | Mapping | None, name: str, default: str) -> PretrainedConfig:
    if isinstance(value, PretrainedConfig):
        return value
    values = dict(value or {})
    model_type = values.pop("model_type", default)
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(f"{name}.model_type is unknown to transformers", given=model_type)
    config_class = CONFIG_MAPPING[model_type]
    return config_class(**rope_as_stated(values, config_class, f"{name} of a LaCo checkpoint"))
