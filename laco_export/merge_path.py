"""A compression as a path of merges: where each stands, and how many tokens it makes one.

::

    --at 1/4+3/4 --ratio 2+3      24 x 24 ─▶ block 1 … 6 ─▶ 2x2 ─▶ 12 x 12 ─▶ block 7 … 18 ─▶ 3x3 ─▶ 4 x 4 ─▶ 19 … 24

One merge is a path of one and is written as its depth alone: ``--at 1/2``. A ratio is one number for every merge
(``2``), one for each merge of a path (``2+3``), or a list with either for each path of a checkpoint (``4 2+3``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .depth import Depth
from .errors import ConfigError, DepthError
from .token_grid import merged_grid

RATIOS = (2, 3, 4)
"""r of a merge: r×r tokens become one."""

Ratio = int | str
"""2, or "2+3" for the merges of a path."""

_JOINT = "+"


@dataclass(frozen=True)
class DepthPath:
    """The depths of a path's merges as asked for, in the order in which the tokens pass them."""

    depths: tuple[Depth, ...]

    @classmethod
    def parse(cls, text: str | float | Depth | DepthPath) -> DepthPath:
        """Read ``1/2`` or ``1/4+3/4``.

        Raises:
            DepthError: a part is no depth (:meth:`.depth.Depth.parse`).
        """
        if isinstance(text, DepthPath):
            return text
        parts = (text,) if isinstance(text, Depth) else str(text).split(_JOINT)
        try:
            return cls(tuple(Depth.parse(part) for part in parts))
        except DepthError as error:
            path = f"the path {text}" if len(parts) > 1 else None
            raise DepthError(error.failed, given=path or error.given, allowed=error.allowed) from None

    def resolve(self, num_blocks: int) -> tuple[int, ...]:
        """For each merge the number of blocks before it, in 1 … ``num_blocks``, strictly increasing.

        Raises:
            DepthError: a block beyond the encoder's last, or a merge that does not stand behind the one before it.
        """
        blocks = tuple(depth.resolve(num_blocks) for depth in self.depths)
        if any(later <= earlier for earlier, later in pairwise(blocks)):
            raise DepthError(
                "each merge of a path stands after a later block than the one before it",
                given=f"{self}: after blocks {', '.join(map(str, blocks))} of {num_blocks}",
                allowed="depths that rise, such as 1/4+3/4",
            )
        return blocks

    def names(self, path: MergePath, text: str) -> bool:
        """Whether this asks for ``path``, which was configured as ``text``: by the same fractions, or by its blocks."""
        configured = DepthPath.parse(text).depths
        return len(self.depths) == len(configured) and all(
            depth.block == block or (depth.fraction is not None and depth.fraction == other.fraction)
            for depth, other, block in zip(self.depths, configured, path.blocks)
        )

    def __str__(self) -> str:
        return _JOINT.join(map(str, self.depths))

    @property
    def slug(self) -> str:
        """The path as part of a file name: ``1_2``, ``1_4+3_4``."""
        return _JOINT.join(depth.slug for depth in self.depths)


@dataclass(frozen=True)
class MergePath:
    """The merges of one path in an encoder, in order.

    Attributes:
        blocks: for each merge the number of blocks before it.
        ratios: for each merge r: each r×r window of tokens becomes one.
    """

    blocks: tuple[int, ...]
    ratios: tuple[int, ...]

    @property
    def module_names(self) -> tuple[str, ...]:
        """Each merge's path inside ``LacoVisionModel.compressors``.

        A merge that is alone is ``block_12``; those of a longer path are its own, whatever other paths stand at:
        ``path_6_18.block_6``, ``path_6_18.block_18``.
        """
        names = tuple(f"block_{block}" for block in self.blocks)
        if len(names) == 1:
            return names
        return tuple(f"path_{'_'.join(map(str, self.blocks))}.{name}" for name in names)

    @property
    def total_ratio(self) -> int:
        """The product of the ratios: the sides of the last grid are the first's, divided by it and rounded up."""
        return math.prod(self.ratios)

    def grids(self, grid: tuple[int, int]) -> list[tuple[int, int]]:
        """The token grid that each merge reads, and last the one that the path leaves; odd sides are padded at each.

        Raises:
            ConfigError: a grid on the way is smaller than the next merge's window.
        """
        grids = [grid]
        for ratio in self.ratios:
            if len(self.ratios) > 1 and min(grids[-1]) < ratio:
                way = " → ".join(f"{height} x {width}" for height, width in grids)
                raise ConfigError(
                    f"merge {len(grids)} of a path has no whole window",
                    given=f"grids {way}, then windows of {ratio} x {ratio}: ratio {_JOINT.join(map(str, self.ratios))}",
                    allowed="merges whose windows fit into the grid that the one before leaves",
                    todo="give smaller ratios, or fewer merges",
                )
            grids.append(merged_grid(*grids[-1], ratio))
        return grids

    def __str__(self) -> str:
        """``after block 12``; of several merges ``2 x 2 after block 6, 3 x 3 after block 18``."""
        if len(self.blocks) == 1:
            return f"after block {self.blocks[0]}"
        return ", ".join(f"{ratio} x {ratio} after block {block}" for block, ratio in zip(self.blocks, self.ratios))

    def at_last(self, num_blocks: int) -> MergePath:
        """The same merges after the last block: what the path is compared with, ``@1``."""
        return MergePath((num_blocks,) * len(self.blocks), self.ratios)


def ratios_of_paths(
    ratio: Ratio | Sequence[Ratio], lengths: Sequence[int], *, field: str
) -> tuple[tuple[int, ...], ...]:
    """For each path the ratio of each of its merges.

    Args:
        ratio: one for all paths, or one for each of them.
        lengths: how many merges each path has.
        field: the name under which a person has given ``ratio``.

    Raises:
        ConfigError: a ratio is not one of :data:`RATIOS`, or there are not as many as merges or paths.
    """
    each = list(ratio) if isinstance(ratio, Sequence) and not isinstance(ratio, str) else [ratio] * len(lengths)
    if len(each) != len(lengths):
        raise ConfigError(
            f"{field} has not one entry for each path",
            given=f"{len(each)} ratios for {len(lengths)} paths",
            allowed="one for all (2, or 2+3 where all have two merges), or a list with one for each",
        )
    return tuple(_ratios_of_merges(one_path, count, field) for one_path, count in zip(each, lengths))


def shortest_ratio(ratios: Iterable[tuple[int, ...]]) -> Ratio | tuple[Ratio, ...]:
    """What :func:`ratios_of_paths` reads as ``ratios``, written as briefly as it can be: ``2`` where all are 2."""
    paths = list(ratios)
    values = {value for path in paths for value in path}
    if len(values) == 1:
        return values.pop()
    each = tuple(path[0] if len(set(path)) == 1 else _JOINT.join(map(str, path)) for path in paths)
    return each[0] if len(set(paths)) == 1 else each


def _ratios_of_merges(ratio: Ratio, merges: int, field: str) -> tuple[int, ...]:
    parts = str(ratio).split(_JOINT)
    values = tuple(int(part) for part in parts if re.fullmatch(r"\d+", part))
    if len(values) != len(parts) or isinstance(ratio, bool) or set(values) - set(RATIOS):
        raise ConfigError(
            f"{field} is not supported",
            given=ratio,
            allowed=f"{', '.join(map(str, RATIOS))}, or one for each merge of a path: 2+3",
        )
    if len(values) == 1:
        return values * merges
    if len(values) != merges:
        raise ConfigError(
            f"{field} has not one number for each merge of the path",
            given=f"{ratio} for {merges} {'merge' if merges == 1 else 'merges'}",
            allowed=f"one number for all, or {merges}",
        )
    return values
