"""The depths that a bundle carries, by the ``compression`` entry of each: their names, and which of them is asked for.

A depth may be asked for as it was configured (``1/2``), as the same number (``0.5``) or by its blocks (``block:12``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import DepthError
from .merge_path import DepthPath, MergePath

UNMERGED = "full"
"""The name of a tower that merges nothing, where depths are named."""


def depth_name(compression: Mapping) -> str:
    """A depth as it was configured: ``1/2``, ``1/4+3/4``; :data:`UNMERGED` where nothing is merged."""
    return compression["depth"] or UNMERGED


def path_of(compression: Mapping) -> MergePath:
    """The merges of a depth."""
    merges = compression.get("merges") or [compression]
    return MergePath(tuple(merge["block"] for merge in merges), tuple(merge["ratio"] for merge in merges))


def find_depth(compressions: Sequence[Mapping], asked: str) -> int:
    """The index of the depth that is asked for.

    Raises:
        DepthError: none of them is; the message lists them.
    """
    text = str(asked).strip()
    for index, compression in enumerate(compressions):
        if text == depth_name(compression):
            return index
    if text != UNMERGED:
        path = DepthPath.parse(text)
        for index, compression in enumerate(compressions):
            if compression["depth"] is not None and path.names(path_of(compression), compression["depth"]):
                return index
    raise DepthError(
        f"the bundle does not carry depth {ascii(text)[1:-1][:40]}",
        allowed=", ".join(map(depth_name, compressions)),
        todo="choose one of those with --at, or export this depth: laco-export --at",
    )
