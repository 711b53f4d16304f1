"""A dataset that ``datasets.Dataset.save_to_disk`` wrote: memory-mapped, any row at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import DataError, NoSamplesError
from .parquet_files import check_columns, holds_pictures, lengths_of_conversations


class ArrowSource:
    """The rows of a saved ``datasets.Dataset``; pictures stay bytes until they are asked for.

    Raises:
        DataError: the folder cannot be loaded, or has no column ``conversations``, or one of another shape.
    """

    pictures = text_lengths = None  # not known before the rows are read: see ``lengths_of``

    def __init__(self, path: Path):
        from datasets import Dataset, load_from_disk

        self.path = path
        try:
            rows = load_from_disk(str(path))
        except Exception as error:  # datasets and pyarrow raise many kinds
            raise DataError(f"dataset folder '{path}' cannot be loaded: {error}") from None
        if not isinstance(rows, Dataset):
            raise DataError(f"dataset folder '{path}' holds splits", given=", ".join(rows), todo="name one of them")
        check_columns(rows.data.schema, f"dataset folder '{path}'")
        if not len(rows):
            raise NoSamplesError(f"dataset folder '{path}' holds no rows")
        self.holds_pictures = holds_pictures(rows.data.schema)
        # Arrow's own values: bytes and path of a picture, where datasets' Image feature would decode it.
        self._rows = rows.with_format("arrow")
        self._texts = rows.select_columns("conversations").with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        (row,) = self._rows[index : index + 1].to_pylist()
        return row

    def lengths_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and text lengths (bytes) of rows; no picture is read."""
        return lengths_of_conversations(self._texts[rows], self._rows.column_names)
