"""What a rewrite is given and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MergeGrid:
    """A merge that was traced: a ``height`` × ``width`` token grid in ``ratio`` × ``ratio`` windows."""

    height: int
    width: int
    ratio: int

    @classmethod
    def of_tower(cls, vision_model) -> tuple[MergeGrid, ...]:
        """Of the merges that a :class:`~laco_export.models.vision.LacoVisionModel` is set to, in order."""
        path = vision_model.path
        if path is None:
            return ()
        return tuple(cls(*grid, ratio) for grid, ratio in zip(path.grids(vision_model.grid), path.ratios))

    @property
    def padded(self) -> tuple[int, int]:
        """The grid rounded up to whole windows."""
        return -(-self.height // self.ratio) * self.ratio, -(-self.width // self.ratio) * self.ratio


MergeGrids = Sequence[MergeGrid]
"""Of a graph's merges, in order; none where it has none."""


@dataclass(frozen=True)
class Outcome:
    """How often a rewrite fired, and for each place where it could have but did not, why."""

    fired: int
    refused: tuple[str, ...] = ()
