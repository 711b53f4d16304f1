"""Pictures to visual embeddings, each picture once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import BundleError, NotFiniteError
from laco_export.stored_arrays import read_array
from laco_export.token_layouts import pack_tokens

from .prompts.visuals import Visual
from .runtimes import VisionRuntime

MAX_EMBEDDING_BYTES = 64 << 20
"""Of the embeddings that are remembered: 130 pictures of 144 tokens of 896 values; those of one call are kept whatever
their size."""


def read_newline(bundle: Bundle) -> np.ndarray | None:
    """The embedding that ends a row of a tiled picture, float32 ``[D]``; None where the bundle tiles none.

    Raises:
        BundleError: its file cannot be read, or holds something else.
    """
    vision = bundle.manifest.vision
    if vision.image_newline is None:
        return None
    shape = vision.graphs[0].output.shape[-1:]
    with bundle.unchanged(vision.image_newline):
        newline = read_array(
            bundle.file(vision.image_newline),
            lambda dtype, actual: dtype == np.float32 and actual == shape,
            f"float32 {list(shape)}",
        )
    if not np.isfinite(newline).all():
        raise BundleError(
            f"'{bundle.file(vision.image_newline)}' holds inf or NaN", todo="copy the bundle again, or export it again"
        )
    return newline


class PictureEncoder:
    """A vision runtime that remembers what it has encoded; not safe for several threads.

    Args:
        vision: the loaded vision tower.
        newline: float32 ``[D]``, the embedding that ends a row of a tiled picture, where the bundle has one.

    Attributes:
        encoded: visuals that the vision tower has encoded so far.
    """

    def __init__(self, vision: VisionRuntime, newline: np.ndarray | None = None):
        self.vision = vision
        self.encoded = 0
        self._newline = newline
        self._features: OrderedDict[bytes, np.ndarray] = OrderedDict()  # the least recently used first

    def prepare(self, visuals: Sequence[Visual]) -> None:
        """Load what encoding these will need, so that it is not timed with it."""
        self.vision.prepare(sum(visual.layout.tiles for visual in self._unknown(visuals)))

    def encode(self, visuals: Sequence[Visual]) -> list[np.ndarray]:
        """One float32 ``[len(visual), D]`` per visual; those encoded before are not encoded again.

        Raises:
            NotFiniteError: the vision tower gives inf or NaN.
        """
        unknown = self._unknown(visuals)
        if unknown:
            tiles = self.vision.encode(np.concatenate([visual.pixel_values for visual in unknown]))  # [tiles, T, D]
            self._require_finite(tiles)
            packed = pack_tokens(tiles, [visual.layout for visual in unknown], self._newline)  # [n, D]
            ends = np.cumsum([len(visual) for visual in unknown])
            for visual, features in zip(unknown, np.split(packed, ends[:-1]), strict=True):
                self._features[visual.digest] = features.copy()  # not a view that keeps all of them
            self.encoded += len(unknown)
        for visual in visuals:
            self._features.move_to_end(visual.digest)
        embeddings = [self._features[visual.digest] for visual in visuals]
        self._forget(keep=len({visual.digest for visual in visuals}))
        return embeddings

    def forget(self) -> None:
        """Free all embeddings: each visual is encoded anew."""
        self._features.clear()

    def _require_finite(self, tiles: np.ndarray) -> None:
        if np.isfinite(tiles).all():
            return
        wrong = int((~np.isfinite(tiles).all((1, 2))).sum())
        raise NotFiniteError(
            "the vision tower gives inf or NaN",
            given=f"{wrong} of {len(tiles)} pictures or tiles, on {self.vision.name}",
            todo="laco-engine diff BUNDLE says whether it does so on the golden pictures, and in which block; half "
            "precision may overflow on pictures unlike those: export with --images like yours, or with --fp32",
        )

    def _unknown(self, visuals: Sequence[Visual]) -> list[Visual]:
        return list({v.digest: v for v in visuals if v.digest not in self._features}.values())

    def _forget(self, *, keep: int) -> None:
        total = sum(features.nbytes for features in self._features.values())
        while total > MAX_EMBEDDING_BYTES and len(self._features) > keep:
            total -= self._features.popitem(last=False)[1].nbytes
