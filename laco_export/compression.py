"""How and where an encoder's tokens are merged: the ``compression`` entry of a checkpoint's ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .depth import Depth
from .errors import ConfigError, DepthError, check_whole
from .merge_path import DepthPath, MergePath, Ratio, ratios_of_paths, shortest_ratio

ALL_DEPTHS = "all"
"""In the place of depths: each that there is."""


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

    def refuse_merges(self) -> None:
        """Refuse a model into which merges are to be put, and which has some.

        Raises:
            ConfigError: it has.
        """
        if self.method is not None:
            raise ConfigError(
                "the model has merges inside already",
                given=f"compression method {self.method}, depths {', '.join(self.depths)}",
                allowed="a model with compression off",
                todo="start from the model as it was before: laco-train init --from-vlm without --at",
            )

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

    def find_all(self, at: str | Sequence[str] | None) -> tuple[str, ...]:
        """The carried depths that are asked for, as configured and in the order in which they are asked for.

        Args:
            at: what :func:`asked_depths` takes. None takes the first; of a model that merges nothing this and
                :data:`ALL_DEPTHS` give none.

        Raises:
            DepthError: the checkpoint carries no merges at one of them, or one is asked for twice.
        """
        asked = asked_depths(at)
        if asked in ((), (ALL_DEPTHS,)):
            carried = () if self.method is None else self.depths
            return carried if asked else carried[:1]
        names = tuple(self.find(depth)[0] for depth in asked)
        if len(set(names)) < len(names):
            raise DepthError("a depth is asked for twice", given=" ".join(asked), allowed="each depth once")
        return names


def asked_depths(at: str | Sequence[str] | None) -> tuple[str, ...]:
    """One depth or several as a tuple, which is empty where none is named.

    Raises:
        DepthError: one is no depth; or :data:`ALL_DEPTHS` stands beside others.
    """
    asked = () if at is None else (at,) if isinstance(at, (str, Depth, DepthPath)) else tuple(at)
    if ALL_DEPTHS in asked:
        if len(asked) > 1:
            raise DepthError(
                f"{ALL_DEPTHS} stands alone", given=" ".join(map(str, asked)), allowed=f"--at {ALL_DEPTHS}"
            )
        return asked
    return tuple(str(depth) for depth in asked if DepthPath.parse(depth))


def blocks_up_to(feature_layer: int | None, num_hidden_layers: int) -> int:
    """L: an encoder's blocks up to ``feature_layer``; depths are fractions of these.

    Args:
        feature_layer: as :class:`~laco_export.models.LacoConfig` has it: None takes all, -2 drops the last.

    Raises:
        ConfigError: it names no block.
    """
    if feature_layer is None:
        return num_hidden_layers
    whole = isinstance(feature_layer, int) and not isinstance(feature_layer, bool)
    blocks = num_hidden_layers + 1 + feature_layer if whole and feature_layer < 0 else feature_layer
    if not whole or not 1 <= blocks <= num_hidden_layers:
        raise ConfigError(
            "feature_layer lies outside the encoder",
            given=feature_layer,
            allowed=f"-{num_hidden_layers} … -1, 1 … {num_hidden_layers}, or null",
        )
    return blocks


def _one_or_several(blocks: int | Sequence[int]) -> int | tuple[int, ...]:
    """A path's blocks as the configuration spells them: of one merge a number."""
    if isinstance(blocks, Sequence):
        blocks = tuple(int(block) for block in blocks)
        return blocks[0] if len(blocks) == 1 else blocks
    return int(blocks)
