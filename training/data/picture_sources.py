"""Pictures without conversations as a source of samples: a folder, an archive, parquet, or what training data names.

Each sample is an entry with ``image``, as in LLaVA's JSON, so that what reads conversations reads these too
(:mod:`.sources`). One more format is one line in :data:`PICTURE_SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laco_export.picture_files import PICTURE_SUFFIXES, is_picture_name, pictures_inside

from .conversations import image_names
from .errors import DataError, NoSamplesError
from .json_files import JsonSource
from .mixture import MixturePart, open_parts
from .parquet_files import ParquetSource, is_raw_picture
from .pictures import ARCHIVES, open_archive
from .sources import parquet_files

if TYPE_CHECKING:
    import pyarrow as pa

_CONVERSATIONS = (".json", ".jsonl", ".yaml", ".yml")


class NamedPictures:
    """Pictures by their names in a folder or an archive, each one sample.

    Raises:
        NoSamplesError: there are none.
    """

    holds_pictures = False

    def __init__(self, names: Sequence[str], where: Path):
        if not names:
            kinds = ", ".join(sorted(PICTURE_SUFFIXES))
            raise NoSamplesError(f"there are no pictures in '{where}'", allowed=f"files named {kinds}")
        self.names = list(names)
        self.pictures = np.ones(len(self.names), np.int16)
        self.text_lengths = np.zeros(len(self.names), np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        return {"id": self.names[index], "image": self.names[index]}


class ParquetPictures(ParquetSource):
    """Rows of parquet files that hold pictures, with or without conversations.

    Raises:
        DataError: no such file, not parquet, or no column of pictures.
    """

    check_schema = staticmethod(lambda schema, what: check_picture_column(schema, what))

    def lengths_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A picture in each row and no text; one without is found when its turn comes."""
        return np.ones(len(rows), np.int16), np.zeros(len(rows), np.int32)


def check_picture_column(schema: pa.Schema, what: str) -> None:
    """The data has a column ``image`` or ``images`` of structs ``{bytes, path}`` or of names.

    Raises:
        DataError: it has not.
    """
    import pyarrow.types as kinds

    for name in ("image", "images"):
        if name in schema.names:
            column = schema.field(name).type
            item = column.value_type if kinds.is_list(column) or kinds.is_large_list(column) else column
            if kinds.is_struct(item) or kinds.is_string(item) or kinds.is_large_string(item) or is_raw_picture(item):
                return
    raise DataError(
        f"{what} has no column of pictures",
        given=", ".join(f"{field.name}: {field.type}" for field in schema),
        allowed="image, or images as a list: struct<bytes: binary, path: string> as the Hub publishes it, or names",
    )


def open_pictures(path: Path, *, seed: int = 0) -> tuple[list[MixturePart], Path]:
    """The pictures of a path, and the folder or archive that they lie in.

    Args:
        path: a folder with its subfolders (of pictures, or of parquet), a ``.zip``, a ``.tar``, ``.parquet``, or
            conversations (``.json``, ``.jsonl``, a mixture ``.yaml``), of which the samples with pictures are taken.
        seed: of a mixture's ``random`` strategies.

    Raises:
        DataError: there is no such path, it is of no known kind, cannot be read, or holds no picture.
    """
    if path.suffix in _CONVERSATIONS:
        return _chosen(path, seed, lambda pictures: pictures > 0, "names a picture"), path.parent
    for _, matches, reader in PICTURE_SOURCES:
        if matches(path):
            source = reader(path)
            root = path.parent if isinstance(source, ParquetSource) and path.suffix else path
            return [MixturePart(source, np.arange(len(source)), None, str(path))], root
    require_pictures(path)
    raise DataError(f"'{path}' is of no known kind", allowed=_kinds())


def require_pictures(path: Path) -> None:
    """A path of pictures leads somewhere; nothing is opened.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(f"there are no pictures at '{path}'", allowed=_kinds(), todo="check the path")


def _kinds() -> str:
    return ", ".join([*(name for name, _, _ in PICTURE_SOURCES), *_CONVERSATIONS])


def hold_out(parts: Sequence[MixturePart], count: int, *, seed: int) -> tuple[list[MixturePart], list[MixturePart]]:
    """The parts without some pictures, and these.

    Where samples name their pictures (JSON), others of the same pictures are held out of the first with them; of
    parquet's rows, each is taken for a picture of its own.

    Args:
        count: of samples to hold out; at most a tenth of all.
        seed: by which they are drawn.

    Raises:
        DataError: fewer than ten samples.
    """
    ends = np.cumsum([len(part.rows) for part in parts])
    count = min(count, int(ends[-1]) // 10)
    if not count:
        raise DataError(
            "there are too few pictures to hold any out", given=f"{ends[-1]} pictures", allowed="at least ten"
        )
    chosen = np.zeros(ends[-1], bool)
    chosen[np.random.default_rng((seed, count)).permutation(int(ends[-1]))[:count]] = True
    masks = np.split(chosen, ends[:-1])
    aside = [replace(part, rows=part.rows[mask]) for part, mask in zip(parts, masks, strict=True)]
    taken = {name for part in aside for row in part.rows for name in _names(part, row)}
    rest = []
    for part, mask in zip(parts, masks, strict=True):
        rows = part.rows[~mask]
        if isinstance(part.source, JsonSource):
            rows = rows[[taken.isdisjoint(_names(part, row)) for row in rows]]
        rest.append(replace(part, rows=rows))
    return rest, aside


def _names(part: MixturePart, row: int) -> set[str]:
    """The pictures of a sample by name, where naming them takes no reading of pictures."""
    if not isinstance(part.source, JsonSource):
        return set()
    return {name for name in image_names(part.source[int(row)]) if isinstance(name, str)}


def _folder(path: Path) -> NamedPictures | ParquetPictures:
    files = pictures_inside(path)
    if not files and any(path.rglob("*.parquet")):
        return ParquetPictures(parquet_files(path))
    return NamedPictures([file.relative_to(path).as_posix() for file in files], path)


def _archive(path: Path) -> NamedPictures:
    return NamedPictures([name for name in open_archive(path).names() if is_picture_name(name)], path)


PICTURE_SOURCES: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], NamedPictures | ParquetPictures]], ...] = (
    ("a folder of pictures or of parquet files", Path.is_dir, _folder),
    (" or ".join(ARCHIVES), lambda path: path.suffix in ARCHIVES, _archive),
    (".parquet", lambda path: path.suffix == ".parquet", lambda path: ParquetPictures(parquet_files(path))),
)


def with_one_picture(path: Path, *, seed: int = 0) -> tuple[list[MixturePart], Path]:
    """The conversations of a data path that are about one picture, and the folder that the pictures lie in.

    Raises:
        DataError: the data cannot be read, or holds no such sample.
    """
    _check_conversations(path, "give these, or set distillation.language_model to 0")
    return _chosen(path, seed, lambda pictures: pictures == 1, "is a conversation about one picture"), path.parent


def with_pictures(path: Path, *, seed: int = 0) -> list[MixturePart]:
    """The conversations of a data path that are about pictures, and no videos.

    Raises:
        DataError: the data cannot be read, or holds no such sample.
    """
    _check_conversations(path, "give these")
    return _chosen(path, seed, lambda pictures: pictures > 0, "asks about a picture")


def _check_conversations(path: Path, todo: str) -> None:
    """Refuse what holds pictures alone."""
    is_folder_of_pictures = path.is_dir() and not (
        any(path.rglob("*.parquet")) or (path / "dataset_info.json").is_file()
    )
    if is_folder_of_pictures or path.suffix in ARCHIVES:
        raise DataError(
            f"'{path}' holds no conversations",
            given="pictures alone",
            allowed=f"conversations about pictures ({', '.join(_CONVERSATIONS)}, parquet)",
            todo=todo,
        )


def _chosen(path: Path, seed: int, wanted: Callable[[np.ndarray], np.ndarray], kind: str) -> list[MixturePart]:
    """The rows of a data path whose number of pictures is wanted."""
    parts = []
    for part in open_parts(path, seed=seed):
        source = part.source
        counts = source.pictures[part.rows] if source.pictures is not None else source.lengths_of(part.rows)[0]
        parts.append(replace(part, rows=part.rows[wanted(counts)]))
    if not sum(len(part.rows) for part in parts):
        raise NoSamplesError(f"no sample of '{path}' {kind}")
    return parts
