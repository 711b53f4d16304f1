"""Visual features by a chain of segments, each taken from the reference's vision graph or from the bundle's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laco_export.bundle import PIXEL_VALUES, Bundle
from laco_export.errors import BundleError

from .segmented_tower import NamedTensors, SegmentedTower
from .tower_parts import TowerPart


class SwitchedTower:
    """Two vision towers of one model, cut at the same boundaries.

    Args:
        reference, bundle: verified, of one depth and of one checkpoint.
        parts: of the tower, in order.
        threads: of the CPU.

    Raises:
        BundleError: the graphs cannot be cut alike.
        RuntimeMissingError: nothing here can run one of them.
    """

    def __init__(self, reference: Bundle, bundle: Bundle, parts: Sequence[TowerPart], *, threads: int | None = None):
        self._ends = [part.end for part in parts]
        self.reference = SegmentedTower(reference, self._ends, threads=threads)
        self.bundle = self.reference
        if tower_sha256(bundle) != tower_sha256(reference):
            self.bundle = SegmentedTower(bundle, self._ends, threads=threads)
        self._require_same_cuts(bundle)

    @property
    def is_one(self) -> bool:
        """Both have the same vision graph, byte by byte."""
        return self.bundle is self.reference

    def _require_same_cuts(self, bundle: Bundle) -> None:
        pairs = zip(self._ends, self.reference.input_sizes, self.bundle.input_sizes, strict=True)
        for end, expected, actual in pairs:
            if expected != actual:
                raise BundleError(
                    f"the vision graphs of '{bundle.path}' and its reference do not hand on the same at '{end}'",
                    given=actual,
                    allowed=expected,
                    todo="export both with this version",
                )

    def on_tile(self, of_reference: np.ndarray, of_bundle: np.ndarray) -> SwitchedTile:
        """A tile, float32 ``[3, H, W]``, as the reference's preprocessing and as the bundle's gives it."""
        return SwitchedTile((self.reference, self.bundle), self._ends, (of_reference, of_bundle))


class SwitchedTile:
    """One tile through chains of segments. What a chain and another share from the pixels on is computed once, where
    it is of one bundle throughout."""

    def __init__(
        self, towers: tuple[SegmentedTower, SegmentedTower], ends: Sequence[str], pixels: Sequence[np.ndarray]
    ):
        self._towers, self._ends = towers, list(ends)
        self._unmixed: tuple[NamedTensors, NamedTensors] = tuple({PIXEL_VALUES: values[None]} for values in pixels)

    def features(self, choices: Sequence[bool]) -> np.ndarray:
        """float32 ``[tokens, D]``.

        Args:
            choices: whether the bundle's is taken: of the preprocessing, then of each part.
        """
        first, *parts = (bool(choice) for choice in choices)
        unmixed = next((place for place, choice in enumerate(parts) if choice is not first), len(parts))
        tensors = self._unmixed[first]
        for place in range(unmixed):
            if self._ends[place] not in tensors:
                tensors[self._ends[place]] = self._towers[first].run(place, tensors)
        mixed = {PIXEL_VALUES: tensors[PIXEL_VALUES], **{end: tensors[end] for end in self._ends[:unmixed]}}
        for place in range(unmixed, len(parts)):
            mixed[self._ends[place]] = self._towers[parts[place]].run(place, mixed)
        features = mixed[self._ends[-1]]
        return features.astype(np.float32, copy=False).reshape(-1, features.shape[-1])  # [1, …, D] -> [tokens, D]


def tower_sha256(bundle: Bundle) -> str:
    """What tells a vision tower's graph for one picture from another, its weights included."""
    return bundle.graph_sha256(next(graph for graph in bundle.manifest.vision.graphs if graph.batch == 1))
