"""The configuration of a LaCo checkpoint (``config.json``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from ..depth import Depth
from ..errors import ConfigError, DepthError, check_whole
from ..layout_rules import DEFAULT_TOKEN_LAYOUT, LayoutRules, layout_rules
from ..merge_path import DepthPath, MergePath, Ratio, ratios_of_paths, shortest_ratio
from ..tiling import Tiling
from ..token_grid import merged_grid
from ..token_layouts import check_token_layout
from .encoders import encoder_spec
from .stated_config import rope_as_stated


@dataclass(frozen=True)
class CompressionConfig:
    """How and where the encoder's tokens are merged.

    Attributes:
        method: a name of :data:`laco_export.models.compressors.COMPRESSORS`, or None for an encoder that keeps all its
            tokens (what stage 0 pretrains).
        depths: the depths as asked for (``1/2``, ``block:7``), one for each path that the checkpoint carries; a path of
            several merges joins theirs: ``1/4+3/4``.
        blocks: for each path the number of blocks before its merge: what ``depths`` resolved to. A list where the path
            has several merges. Filled in by :meth:`resolved`.
        ratio: r: each r×r window of tokens becomes one. Written ``2+3`` where a path's merges differ, and as a list
            where paths do. Paths may leave a picture different numbers of tokens; a processor makes those of one.
        mlp_hidden_size: width of the Patch Merge Layer's hidden layer; None takes the encoder's width.
        merge_before_final_norm: where the merge at the last block (``@1``) stands. The paper says "subsequent to the
            encoder"; the default takes that as after the final norm.
    """

    method: str | None = "laco"
    depths: tuple[str, ...] = ("1/2",)
    blocks: tuple[int | tuple[int, ...], ...] = ()
    ratio: Ratio | tuple[Ratio, ...] = 2
    mlp_hidden_size: int | None = None
    merge_before_final_norm: bool = False

    def __post_init__(self) -> None:
        depths = (self.depths,) if isinstance(self.depths, (str, Depth, DepthPath)) else self.depths
        paths = tuple(DepthPath.parse(depth) for depth in depths)
        object.__setattr__(self, "depths", tuple(map(str, paths)))
        object.__setattr__(self, "blocks", tuple(_one_or_several(blocks) for blocks in self.blocks))
        ratios = ratios_of_paths(self.ratio, [len(path.depths) for path in paths] or [1], field="compression.ratio")
        object.__setattr__(self, "ratio", shortest_ratio(ratios))
        if self.mlp_hidden_size is not None:
            check_whole("compression.mlp_hidden_size", self.mlp_hidden_size)
        if self.method is not None and not self.depths:
            raise ConfigError("compression.depths is empty", allowed="one depth per compressor, such as 1/2")
        if self.blocks and len(self.blocks) != len(self.depths):
            raise ConfigError(
                "compression.blocks and compression.depths differ in length", given=(self.blocks, self.depths)
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CompressionConfig:
        """Build from ``config.json``'s ``compression`` entry; an unknown field is an error."""
        field_names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - field_names):
            raise ConfigError(
                f"compression has unknown fields: {', '.join(unknown)}", allowed=", ".join(sorted(field_names))
            )
        return cls(**values)

    def resolved(self, num_blocks: int) -> CompressionConfig:
        """The same with ``blocks`` filled in (and checked) for an encoder of ``num_blocks`` blocks."""
        if self.method is None:
            return CompressionConfig(**{**asdict(self), "depths": (), "blocks": ()})
        blocks = tuple(_one_or_several(DepthPath.parse(path).resolve(num_blocks)) for path in self.depths)
        if self.blocks and self.blocks != blocks:
            raise ConfigError(
                "compression.blocks is not what compression.depths resolves to",
                given=f"blocks {list(self.blocks)}, depths {list(self.depths)}",
                allowed=f"blocks {list(blocks)} in an encoder of {num_blocks} blocks",
            )
        if len(set(blocks)) != len(blocks):
            raise ConfigError(
                "two of compression.depths resolve to the same block or blocks", given=dict(zip(self.depths, blocks))
            )
        return CompressionConfig(**{**asdict(self), "blocks": blocks})

    @property
    def paths(self) -> tuple[MergePath, ...]:
        """The paths that the checkpoint carries, in the order of ``depths``; of a :meth:`resolved` configuration."""
        blocks = [(path,) if isinstance(path, int) else path for path in self.blocks]
        ratios = ratios_of_paths(self.ratio, [len(path) for path in blocks], field="compression.ratio")
        return tuple(MergePath(*path) for path in zip(blocks, ratios))

    def find(self, depth: DepthPath | Depth | str) -> tuple[str, MergePath]:
        """The carried path that ``depth`` names, as configured and as resolved.

        Raises:
            DepthError: the checkpoint carries no merges there; the message lists those that it carries.
        """
        asked = DepthPath.parse(depth)
        carried = dict(zip(self.depths, self.paths))
        for name, path in carried.items():
            if asked.names(path, name):
                return name, path
        in_blocks = lambda path: "+".join(f"block:{block}" for block in path.blocks)
        raise DepthError(
            f"the checkpoint was not trained with a merge at depth {asked}",
            allowed=", ".join(f"{name} ({in_blocks(path)})" for name, path in carried.items()) or "none",
            todo="choose one of those with --at, or train this depth",
        )


def _one_or_several(blocks: int | Sequence[int]) -> int | tuple[int, ...]:
    """A path's blocks as the configuration spells them: of one merge a number."""
    if isinstance(blocks, Sequence):
        blocks = tuple(int(block) for block in blocks)
        return blocks[0] if len(blocks) == 1 else blocks
    return int(blocks)


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

    model_type = "laco"
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
        layers, index = self.vision_config.num_hidden_layers, self.feature_layer
        if index is None:
            return layers
        whole = isinstance(index, int) and not isinstance(index, bool)
        blocks = layers + 1 + index if whole and index < 0 else index
        if not whole or not 1 <= blocks <= layers:
            raise ConfigError(
                "feature_layer lies outside the encoder", given=index, allowed=f"-{layers} … -1, 1 … {layers}, or null"
            )
        return blocks

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
