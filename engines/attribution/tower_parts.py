"""The vision tower as parts that follow each other, each ending at a block boundary; the projector is the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from laco_export.bundle import IMAGE_FEATURES

_TOWER, _MERGES, _RESIDUAL = "vision_model.", "vision_model.compressors.", ".residual"
PROJECTOR = "projector"


@dataclass(frozen=True)
class TowerPart:
    """A part.

    Attributes:
        name: for people.
        end: the tensor that it hands on.
    """

    name: str
    end: str


def tower_parts(boundaries: Sequence[str], *, each_block: bool = False) -> list[TowerPart]:
    """The parts, in the order in which they compute.

    Args:
        boundaries: a tower's, in order, as the golden file names them.
        each_block: every boundary ends a part; else the blocks between two merges are one.
    """
    ends = [name for name in boundaries if not name.endswith(_RESIDUAL)]  # a merge's branch is inside the merge
    each = [TowerPart(name.removeprefix(_TOWER), name) for name in ends]
    parts = each if each_block else _grouped(ends)
    return [*parts, TowerPart(PROJECTOR, IMAGE_FEATURES)]


def _grouped(ends: Sequence[str]) -> list[TowerPart]:
    merges = sum(map(_is_merge, ends))
    parts, number = [], 0
    for is_merge, group in groupby(ends, _is_merge):
        for end in list(group) if is_merge else [list(group)[-1]]:
            number += is_merge
            parts.append(TowerPart(_name(number, merges, is_merge=is_merge), end))
    return parts


def _is_merge(name: str) -> bool:
    return name.startswith(_MERGES)


def _name(number: int, merges: int, *, is_merge: bool) -> str:
    """Of merge ``number``, or of the blocks behind that many merges."""
    if not merges:
        return "tower"
    if is_merge:
        return "merge" if merges == 1 else f"merge {number}"
    if number == 0:
        return "tower before the merge" if merges == 1 else "tower before merge 1"
    if number == merges:
        return "tower after the merge" if merges == 1 else f"tower after merge {number}"
    return f"tower between merges {number} and {number + 1}"
