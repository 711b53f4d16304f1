"""What a rewrite is given and what it reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MergeGrid:
    """The merge that was traced: a ``height`` × ``width`` token grid in ``ratio`` × ``ratio`` windows."""

    height: int
    width: int
    ratio: int

    @property
    def padded(self) -> tuple[int, int]:
        """The grid rounded up to whole windows."""
        return -(-self.height // self.ratio) * self.ratio, -(-self.width // self.ratio) * self.ratio


@dataclass(frozen=True)
class Outcome:
    """How often a rewrite fired, and for each place where it could have but did not, why."""

    fired: int
    refused: tuple[str, ...] = ()
