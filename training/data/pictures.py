"""Pictures and videos of samples, wherever they lie: a folder, a zip, a tar, or the data file itself.

A sample names a picture in one of three ways::

    "coco/1.jpg"                    in the images folder or archive
    "coco/train.zip/1.jpg"          in an archive in the images folder; "…/train.tar/1.jpg" likewise
    {"bytes": b"…", "path": "…"}    Hugging Face's struct, as parquet holds it
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from laco_export.preprocessing import load_image
from laco_export.tiling import sample_frames
from laco_export.video import frame_files, read_frames

from .archives import Archive
from .errors import DataError

ARCHIVES = (".zip", ".tar")

PictureName = str | Mapping
"""A name, or ``{"bytes": …, "path": …}``."""

_INNER = re.compile(r"(.+?\.(?:zip|tar))/(.+)")


@cache
def open_archive(path: Path) -> Archive:
    """The archive of a path; opened once for all the data files that name it."""
    return Archive(path)


class Pictures:
    """Reads the pictures and videos that samples name.

    Args:
        root: a folder, a ``.zip`` or a ``.tar``.

    Raises:
        DataError: there is no such folder or archive.
    """

    def __init__(self, root: Path):
        self.root = root
        if root.suffix in ARCHIVES and root.is_file():
            open_archive(root)  # now, before workers start: they share its index
        elif root.is_file():
            raise DataError(f"images '{root}' is neither a folder nor an archive", allowed=", ".join(ARCHIVES))
        elif not root.is_dir():
            raise DataError(f"there is no images folder '{root}'", todo="check images and data_folder in the recipe")

    def picture(self, name: PictureName) -> Image.Image:
        """One picture as upright RGB.

        Raises:
            DataError, ImageError: it is not there or cannot be read.
        """
        if isinstance(name, Mapping) and name.get("bytes") is not None:
            return _from_bytes(name["bytes"], str(name.get("path") or "the sample's own bytes"))
        name = _text_name(name)
        archive, member = self._locate(name)
        return load_image(self.root / name) if archive is None else _from_bytes(archive.read(member), name)

    def video(
        self, name: PictureName | Sequence[str], max_frames: int, frames_per_second: float | None = None
    ) -> list[Image.Image]:
        """At most ``max_frames`` frames of a video: a file, a folder of frames, or a list of the frames' names.

        Args:
            frames_per_second: as :func:`laco_export.video.read_frames` takes it.

        Raises:
            DataError, VideoError: it is not there or cannot be read.
        """
        if isinstance(name, list):
            return [self.picture(name[index]) for index in sample_frames(len(name), max_frames)]
        if isinstance(name, Mapping) and name.get("bytes") is not None:
            called = str(name.get("path") or "video.mp4")
            data = io.BytesIO(name["bytes"])
            return read_frames(data, max_frames, name=called, frames_per_second=frames_per_second)
        name = _text_name(name)
        archive, member = self._locate(name)
        if archive is None:
            return read_frames(self.root / name, max_frames, frames_per_second=frames_per_second)
        if frames := frame_files(archive.folder(member)):
            taken = [frames[index] for index in sample_frames(len(frames), max_frames)]
            return [_from_bytes(archive.read(frame), frame) for frame in taken]
        data = io.BytesIO(archive.read(member))
        return read_frames(data, max_frames, name=name, frames_per_second=frames_per_second)

    def _locate(self, name: str) -> tuple[Archive | None, str]:
        if self.root.suffix in ARCHIVES:
            return open_archive(self.root), name
        inner = _INNER.fullmatch(name)
        if inner and (self.root / inner[1]).is_file():
            return open_archive(self.root / inner[1]), inner[2]
        return None, name


class PicturesInRows(Pictures):
    """For rows that hold their pictures' bytes; a picture that is only named is an error.

    Args:
        missing: the images folder that is not there, if one was given.
    """

    def __init__(self, missing: Path | None = None):
        self.root, self.missing = Path("images"), missing

    def _locate(self, name: str):
        reason = "no images folder is given" if self.missing is None else f"there is no images folder '{self.missing}'"
        raise DataError(f"'{name}' is only named, and {reason}", todo="set the stage's images")


def _from_bytes(data: bytes, name: str) -> Image.Image:
    return load_image(io.BytesIO(data), name=name)


def _text_name(name: PictureName) -> str:
    if isinstance(name, Mapping):
        name = name.get("path")
    if not isinstance(name, str) or not name:
        raise DataError("a picture has neither a name nor bytes")
    return name
