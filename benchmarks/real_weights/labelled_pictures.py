"""Pictures of real things, each with its kind, as the encoder takes them (``make real-parts``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laco_export.preprocessing import ImagePreprocessing, load_image


@dataclass(frozen=True)
class LabelledPictures:
    """Files with the kind of what each shows; training pictures or held-out ones.

    Attributes:
        data: the JSON that names them.
        kinds: ``animal``, ``food``, ``plant``, ``vehicle``, ``building`` or ``other``, of each file.
    """

    data: Path
    files: tuple[Path, ...]
    kinds: tuple[str, ...]

    @classmethod
    def read(cls, data: Path) -> LabelledPictures:
        """Each picture of LLaVA's JSON once, in its order; an entry's ``kind`` says what it shows."""
        kind_of_file = {data.parent / entry["image"]: entry["kind"] for entry in json.loads(data.read_text())}
        return cls(data, tuple(kind_of_file), tuple(kind_of_file.values()))

    def pixel_values(self, prepare: ImagePreprocessing) -> Iterator[np.ndarray]:
        """float32 ``[1, 3, H, W]`` of each picture; one at a time, so that memory does not grow with their number."""
        for file in self.files:
            yield prepare(load_image(file))[None]

    def evenly_spaced(self, count: int) -> LabelledPictures:
        """``count`` of them, or all where there are fewer."""
        some = np.linspace(0, len(self.files) - 1, min(count, len(self.files))).round().astype(int)
        return LabelledPictures(self.data, tuple(self.files[i] for i in some), tuple(self.kinds[i] for i in some))
