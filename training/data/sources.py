"""Which reader a data path gets: a table from what the path looks like to a source.

A source has ``len(source)``, ``source[index] -> entry`` (a dict as in LLaVA's JSON), and either ``pictures`` and
``text_lengths`` of all its samples or ``lengths_of(rows)``, which reads them. ``holds_pictures``: entries may hold
pictures' bytes. One more format is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from .arrow_folders import ArrowSource
from .errors import DataError
from .json_files import JsonSource
from .parquet_files import ParquetSource


class Source(Protocol):
    """The samples of one data path."""

    pictures: np.ndarray | None
    text_lengths: np.ndarray | None
    holds_pictures: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


SOURCES: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Source]], ...] = (
    (".json", lambda path: path.suffix == ".json", JsonSource),
    (".jsonl", lambda path: path.suffix == ".jsonl", JsonSource),
    (".parquet", lambda path: path.suffix == ".parquet", lambda path: ParquetSource(parquet_files(path))),
    ("a folder of datasets.save_to_disk", lambda path: (path / "dataset_info.json").is_file(), ArrowSource),
    ("a folder of parquet files", Path.is_dir, lambda path: ParquetSource(parquet_files(path))),
)


_KINDS = ", ".join(name for name, _, _ in SOURCES)


def open_source(path: Path) -> Source:
    """The samples of a data path.

    Raises:
        DataError: the path is of no known kind, does not exist, or cannot be read.
    """
    for _, matches, reader in SOURCES:
        if matches(path):
            return reader(path)
    require_data(path)
    raise DataError(f"data file '{path}' is of no known kind", allowed=f"{_KINDS}; .yaml for a mixture of them")


def require_data(path: Path) -> None:
    """A data path leads somewhere; nothing is opened.

    Raises:
        DataError: it does not.
    """
    if _is_pattern(path):
        parquet_files(path)
    elif not path.exists():
        raise DataError(f"there is no data file '{path}'", allowed=_KINDS, todo="check data_folder and stages.*.data")


def parquet_files(path: Path) -> list[Path]:
    """The parquet files of a path, in order of name: the file, those of a folder, or those that a pattern matches.

    Raises:
        DataError: the folder or the pattern has none.
    """
    if _is_pattern(path):
        files = sorted(path.parent.glob(path.name))
    else:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"there are no parquet files in '{path}'", todo="check data_folder and stages.*.data")
    return files


def _is_pattern(path: Path) -> bool:
    return any(character in path.name for character in "*?[")
