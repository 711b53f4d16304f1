"""Which files are pictures, by name in a folder and by content when one is read: one rule for every command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from .errors import UsageError

PILLOW_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
"""What is read, where this build of Pillow has it; MPO is a phone's JPEG.

Not ICO: the picture inside is decoded on opening, before its size can be refused."""

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jp2"}
)
"""In small letters; names are compared without regard to case."""


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """The picture files among ``paths``: a file is taken as it is, a folder with its subfolders, sorted by path.

    Raises:
        UsageError: a folder holds no picture.
    """
    files: list[Path] = []
    for path in paths:
        inside = pictures_inside(path) if path.is_dir() else [path]  # whoever reads a file says what is wrong with it
        if not inside:
            raise UsageError(
                f"there are no pictures in '{path}'", allowed=f"files named {', '.join(sorted(PICTURE_SUFFIXES))}"
            )
        files += inside
    return files


def pictures_inside(folder: Path) -> list[Path]:
    """All pictures of a folder and its subfolders, sorted by path.

    Hidden ones are left out, and what hidden folders hold: a Mac's ``._cat.png`` beside ``cat.png`` is no picture.
    """
    return sorted(path for path in folder.rglob("*") if is_picture_name(path.relative_to(folder)) and path.is_file())


def is_picture_name(name: PurePath | str) -> bool:
    """Whether a file of a folder or an archive is a picture by its name, and neither it nor a folder on its way is
    hidden."""
    path = PurePath(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and not any(part.startswith(".") for part in path.parts)
