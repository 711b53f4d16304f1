"""The pictures that a calibration observes: a folder, files, a list of paths, or training data.

A picture is known by the SHA-256 of its file: what was seen is written down, equal files count once, and a resumed run
knows where it stopped. A file that cannot be read is named and counted; it does not end the run unless none is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import ImageError
from laco_export.picture_files import PICTURE_SUFFIXES, pictures_inside
from laco_export.preprocessing import load_image
from laco_export.tiling import Tiling
from laco_export.verified_files import sha256_of

from ..errors import CalibrationError

_DATA = (".json", ".jsonl")

SHOWN = 20
"""Broken files named in a message or a manifest; the rest are counted."""


@dataclass(frozen=True)
class PictureQuestion:
    """A question about one or more pictures, from training data.

    Attributes:
        truth: the data's own answer; empty where it has none.
    """

    images: tuple[Path, ...]
    text: str
    truth: str


@dataclass(frozen=True)
class PictureFile:
    """A picture file and the SHA-256 of its bytes."""

    path: Path
    sha256: str


@dataclass
class PictureSet:
    """The pictures that ``--images`` names.

    Attributes:
        pictures: each different file once, in the order of the sources.
        broken: files that could not be read, with the reason.
        duplicates: files left out because an equal one was there.
        flat: files left out because they are of one colour.
        copies: files left out because they are nearly equal to another, with that one's name.
        questions: where the source was training data.
    """

    pictures: list[PictureFile]
    broken: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    flat: list[str] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)
    questions: list[PictureQuestion] = field(default_factory=list)

    def describe_broken(self) -> str:
        """``a.png (…), b.png (…) and 3 more``."""
        named = [f"{name} ({reason})" for name, reason in list(self.broken.items())[:SHOWN]]
        more = len(self.broken) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")

    def describe_left_out(self) -> str:
        """``3 of one colour (a.png …), 2 nearly equal to another (c.png to b.png …)``; empty where nothing was."""
        groups = []
        if self.flat:
            groups.append(f"{len(self.flat)} of one colour ({self.flat[0]}{' …' * (len(self.flat) > 1)})")
        if self.copies:
            copy, original = next(iter(self.copies.items()))
            example = f"{copy} to {original}{' …' * (len(self.copies) > 1)}"
            groups.append(f"{len(self.copies)} nearly equal to another ({example})")
        return ", ".join(groups)


def require_sources(sources: Sequence[Path]) -> None:
    """Sources of :func:`find_pictures` lead to files; training data is not read.

    Raises:
        CalibrationError: one does not exist or holds no pictures.
    """
    for source in sources:
        is_data = source.suffix.lower() in _DATA and source.is_file()
        if not is_data and not _files_of(source)[0]:
            raise _no_pictures(source)


def find_pictures(sources: Sequence[Path]) -> PictureSet:
    """Resolve ``--images`` to files; nothing is decoded yet.

    Args:
        sources: folders (with their subfolders, sorted by path), picture files, ``.txt`` lists with one
            path a line, or conversations in ``.json`` / ``.jsonl`` as the trainer takes them (paths relative to the
            file's folder).

    Raises:
        CalibrationError: a source that does not exist or holds no pictures.
    """
    files: list[Path] = []
    questions: list[PictureQuestion] = []
    for source in sources:
        inside, asked = _files_of(source)
        if not inside:
            raise _no_pictures(source)
        files += inside
        questions += asked
    picture_set, seen = PictureSet([], questions=questions), set()
    for path in dict.fromkeys(files):
        if not path.is_file():
            picture_set.broken[str(path)] = "does not exist"
            continue
        digest = sha256_of(path)
        if digest in seen:
            picture_set.duplicates += 1
            continue
        seen.add(digest)
        picture_set.pictures.append(PictureFile(path, digest))
    if not picture_set.pictures:
        raise CalibrationError(
            "none of the pictures is there", given=picture_set.describe_broken(), todo="check the list's paths"
        )
    return picture_set


def find_questions(source: Path) -> list[PictureQuestion]:
    """The questions of training data (``--questions``).

    Raises:
        CalibrationError: no such file, or nothing is asked about a picture in it.
    """
    _, questions = _files_of(source)
    if not questions:
        raise CalibrationError(
            f"'{source}' asks nothing about pictures", allowed="training data with conversations (.json, .jsonl)"
        )
    return questions


def read_tiles(picture: PictureFile, bundle: Bundle) -> Iterator[np.ndarray]:
    """The picture as the encoder sees it: one ``pixel_values`` ``[1, 3, H, W]`` a tile.

    Raises:
        ImageError: it cannot be decoded.
    """
    prepare, tiling = bundle.manifest.image_preprocessing, bundle.manifest.vision.tiling
    if tiling is None:
        yield prepare(load_image(picture.path, resized_to=prepare.resized_to))[None]
        return
    split = Tiling.from_mapping(tiling)
    yield from split.split(load_image(picture.path, resized_to=split.resized_to), prepare)[:, None]


def readable(
    picture_set: PictureSet, bundle: Bundle, wanted: Sequence[PictureFile]
) -> list[tuple[PictureFile, list[np.ndarray]]]:
    """The tiles of the ``wanted`` pictures in memory; broken ones are noted in ``picture_set`` and left out."""
    with_tiles = []
    for picture in wanted:
        try:
            with_tiles.append((picture, list(read_tiles(picture, bundle))))
        except (ImageError, OSError) as error:
            picture_set.broken[str(picture.path)] = reason_of(error)
    return with_tiles


def questions_about(picture_set: PictureSet, wanted: Sequence[PictureFile], default: str) -> list[str]:
    """The data's first question about each picture alone; ``default`` where it asks none."""
    asked: dict[Path, str] = {}
    for question in picture_set.questions:
        if len(question.images) == 1:
            asked.setdefault(question.images[0], question.text)
    return [asked.get(picture.path, default) for picture in wanted]


def reason_of(error: Exception) -> str:
    """One line."""
    return str(getattr(error, "failed", error)).splitlines()[0][:160]


def _no_pictures(source: Path) -> CalibrationError:
    kinds = ", ".join(sorted(PICTURE_SUFFIXES))
    return CalibrationError(f"there are no pictures in '{source}'", allowed=f"files named {kinds}")


def _files_of(source: Path) -> tuple[list[Path], list[PictureQuestion]]:
    if source.is_dir():
        return pictures_inside(source), []
    if not source.exists():
        raise CalibrationError(f"'{source}' does not exist", allowed="a folder, picture files, a .txt list, or a .json")
    if source.suffix.lower() == ".txt":
        try:
            lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise CalibrationError(f"the list '{source}' is not UTF-8 text", allowed="one path a line") from None
        return [source.parent / line for line in lines if line and not line.startswith("#")], []
    if source.suffix.lower() in _DATA:
        return _conversations(source)
    return [source], []


def _conversations(source: Path) -> tuple[list[Path], list[PictureQuestion]]:
    """Pictures and first questions of training data, read as the trainer reads it; videos are left out."""
    from laco_training.data import DataError, image_names, read_entries, turns_of

    files, questions = [], []
    for index, entry in enumerate(read_entries(source)):
        images = tuple(source.parent / name for name in image_names(entry) if isinstance(name, str))
        files += images
        try:
            turns = turns_of(entry) if entry.get("conversations") else []
        except DataError as error:
            raise CalibrationError(
                f"'{source}', sample {index}: {error.failed}", given=error.given, allowed=error.allowed
            ) from None
        asked = next((i for i, (role, _) in enumerate(turns) if role == "user"), None)
        if images and asked is not None:
            answered = turns[asked + 1 : asked + 2]
            truth = answered[0][1].strip() if answered and answered[0][0] == "assistant" else ""
            questions.append(PictureQuestion(images, turns[asked][1], truth))
    return files, questions
