"""Pictures without labels to heal a merge on: the labelled training pictures, and Debian's clip art beside them."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from laco_export.atomic import new_directory

from .labelled_pictures import LabelledPictures

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from real_parts.archives import debian_files
from real_parts.cache import default_folder
from real_parts.packages import DEBIAN, Package, fetch
from real_parts.pictures import SHORTEST_SIDE, flattened

CLIP_ART = Package(
    DEBIAN,
    "openclipart-png",
    "1:0.18+dfsg-19",
    "openclipart-png_1%3a0.18+dfsg-19_all.deb",
    "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    130.9,
)
_PNG_SIZE = ">16xII"
_MOST_PIXELS = 4_000_000  # two of the package's pictures have 169 million


def unlabelled_pictures(training: LabelledPictures, clip_art: int, output: Path) -> Path:
    """A folder with the training pictures and ``clip_art`` pictures of :data:`CLIP_ART`, which is fetched; made once.

    Those are the first by the SHA-256 of their names, flattened as the labelled ones are, to at most 448 pixels square.
    """
    if output.exists():
        return output
    package = fetch(CLIP_ART, default_folder() / "downloads")
    with new_directory(output) as folder:
        for number, file in enumerate(training.files):
            os.link(file, folder / f"training-{number:04d}.png")
        for number, picture in zip(range(clip_art), _clip_art(package, 2 * clip_art)):
            picture.save(folder / f"clip-art-{number:04d}.png")
    return output


def _clip_art(package: Path, candidates: int) -> Iterator[Image.Image]:
    contents = dict(debian_files(package, lambda name: name.endswith(".png")))
    for name in sorted(contents, key=lambda name: hashlib.sha256(name.encode()).digest())[:candidates]:
        width, height = struct.unpack(_PNG_SIZE, contents[name][:24])  # Pillow refuses some before it says
        if min(width, height) >= SHORTEST_SIDE and width * height <= _MOST_PIXELS:
            yield flattened(contents[name])
