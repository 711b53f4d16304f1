"""Parquet as the Hub publishes it: columns id, image (or images, video), conversations, data_source.

Rows are read by row group, the unit that parquet can be entered at: pictures lie in it as bytes, and nothing is
unpacked to disk (``datasets.load_dataset`` would first copy all of it to Arrow). The last groups read are kept, and the
sampler takes rows in such an order that each reader (a process, or each of its workers) reads a group about once a pass
(:meth:`.dataset.ConversationDataset.shuffled`). A global batch is dealt out to all readers, so many readers read most
groups each. Start-up reads the footers.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laco_export.conversation import IMAGE_MARK, VIDEO_MARK

from .conversations import SPEAKER_FIELDS, TEXT_FIELDS, USERS
from .errors import DataError, NoSamplesError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUPS_BYTES = 256 << 20
"""Bytes of row groups, unpacked, that are kept by each process."""
HANDFUL_BYTES = GROUPS_BYTES // 2
"""Bytes of row groups that the sampler mixes at a time: half, because a window of its may reach into two handfuls."""

SchemaCheck = Callable[["pa.Schema", str], None]
"""Raises a DataError where the columns of a file, which it is told by name, are not what is read."""

_PICTURES = ("image", "images", "video")
_COLUMNS = ("id", *_PICTURES, "conversations", "data_source")


class ParquetSource:
    """The rows of parquet files, in the order given.

    Attributes:
        group_starts: int64 ``[groups + 1]``, the first row of each row group, and the number of rows.
        group_bytes: int64 ``[groups]``, unpacked.

    Raises:
        DataError: no such file, not parquet, no column ``conversations``, or one of another shape.
    """

    pictures = text_lengths = None  # not known before the rows are read: see ``lengths_of``
    check_schema: SchemaCheck = staticmethod(lambda schema, what: check_columns(schema, what))

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self._groups: list[tuple[int, int]] = []  # (file, row group in it)
        rows, sizes = [], []
        for number, path in enumerate(self.paths):
            metadata = _open(path, self.check_schema).metadata
            for group in range(metadata.num_row_groups):
                row_group = metadata.row_group(group)
                self._groups.append((number, group))
                rows.append(row_group.num_rows)
                sizes.append(row_group.total_byte_size)
        self.group_starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.group_bytes = np.asarray(sizes, np.int64)
        if not len(self):
            raise NoSamplesError(f"parquet '{self.paths[0]}' holds no rows")
        self.holds_pictures = holds_pictures(_open(self.paths[0], self.check_schema).schema_arrow)
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return int(self.group_starts[-1])

    def __getitem__(self, index: int) -> dict:
        group = self.group_of(index)
        (row,) = self._table(group).slice(index - int(self.group_starts[group]), 1).to_pylist()
        return row

    def group_of(self, rows):
        """The row group of each row."""
        return np.searchsorted(self.group_starts, rows, side="right") - 1

    def lengths_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and text lengths (bytes) of rows; reads the conversations of their groups and no picture."""
        pictures, lengths = np.zeros(len(rows), np.int16), np.zeros(len(rows), np.int32)
        groups = self.group_of(rows)
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            inside = rows[places] - self.group_starts[group]
            pictures[places], lengths[places] = (values[inside] for values in self._texts(int(group)))
        return pictures, lengths

    def _texts(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        import pyarrow as pa

        number, inner = self._groups[group]
        file = self._files.of(number)
        names = file.schema_arrow.names
        try:
            pictures, lengths = lengths_of_conversations(file.read_row_group(inner, columns=["conversations"]), names)
        except (OSError, pa.ArrowException):  # damaged: when their turn comes, each of its rows is a broken sample
            rows = int(self.group_starts[group + 1] - self.group_starts[group])
            return np.zeros(rows, np.int16), np.zeros(rows, np.int32)
        if "video" in names:  # there a video may be marked <image>
            clips = file.read_row_group(inner, columns=["video"])["video"]
            pictures = np.where(clips.is_valid().to_numpy() & (pictures > 0), -pictures, pictures)
        return pictures, lengths

    def _table(self, group: int) -> pa.Table:
        if group in self._tables:
            self._tables.move_to_end(group)
            return self._tables[group]
        number, inner = self._groups[group]
        file = self._files.of(number)
        try:
            table = file.read_row_group(inner, columns=[n for n in file.schema_arrow.names if n in _COLUMNS])
        except (OSError, ValueError) as error:
            raise DataError(f"parquet '{self.paths[number]}' is damaged in row group {inner}: {error}") from None
        self._tables[group] = table
        while len(self._tables) > 1 and sum(held.nbytes for held in self._tables.values()) > GROUPS_BYTES:
            self._tables.popitem(last=False)
        return table

    @cached_property
    def _files(self) -> _Files:
        return _Files(self.paths, self.check_schema)

    def __getstate__(self) -> dict:
        state = {**self.__dict__, "_tables": OrderedDict()}
        state.pop("_files", None)
        return state


def lengths_of_conversations(table: pa.Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (int16, by the user's marks) and text lengths (int32, bytes) of the rows of a column ``conversations``.

    Args:
        names: all columns of the data; without one for videos, ``<video>`` is a word.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    turns = table["conversations"].combine_chunks()
    flat = pc.list_flatten(turns)
    speakers, texts = (pc.struct_field(flat, _field_of(flat.type, names)) for names in (SPEAKER_FIELDS, TEXT_FIELDS))
    row_of_turn = pc.list_parent_indices(turns).to_numpy()

    def summed(counts) -> np.ndarray:
        values = pc.fill_null(counts, 0).to_numpy(zero_copy_only=False)
        return np.bincount(row_of_turn, weights=values, minlength=len(turns))

    asked = pc.is_in(pc.utf8_lower(speakers), pa.array(USERS)).cast(pa.int32())
    images, videos = (summed(pc.multiply(pc.count_substring(texts, m), asked)) for m in (IMAGE_MARK, VIDEO_MARK))
    if "video" not in names:
        videos[:] = 0
    pictures = np.where(videos > 0, -videos, images).astype(np.int16)
    return pictures, summed(pc.binary_length(texts)).astype(np.int32)


def _field_of(turn: pa.StructType, names: Sequence[str]) -> str:
    """Which of the spellings a column of turns has; LLaVA's where it has none."""
    return next((name for name in names if turn.get_field_index(name) >= 0), names[0])


class _Files:
    """Open parquet files, a handle for each process: a forked child's reads would move its parent's position."""

    _MOST = 64  # of thousands of shards, those of the groups in use

    def __init__(self, paths: Sequence[Path], check_schema: SchemaCheck):
        self.paths, self.check_schema, self._open = paths, check_schema, OrderedDict()

    def of(self, number: int) -> pq.ParquetFile:
        key = (os.getpid(), number)
        if key not in self._open:
            self._open[key] = _open(self.paths[number], self.check_schema)
            while len(self._open) > self._MOST:
                self._open.popitem(last=False)
        return self._open[key]


def _open(path: Path, check_schema: SchemaCheck) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=False)
    except FileNotFoundError:
        raise DataError(f"there is no data file '{path}'", todo="check data_folder and stages.*.data") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"data file '{path}' is not parquet, or cut off: {' '.join(str(error).split())[:200]}"
        ) from None
    check_schema(file.schema_arrow, f"parquet '{path}'")
    return file


def check_columns(schema: pa.Schema, what: str) -> None:
    """The data has a column ``conversations`` that holds lists of turns.

    Args:
        what: what the data is called in the error.

    Raises:
        DataError: it has not.
    """
    import pyarrow.types as kinds

    if "conversations" not in schema.names:
        raise DataError(
            f"{what} has no column conversations", given=", ".join(schema.names), allowed=", ".join(_COLUMNS)
        )
    column = schema.field("conversations").type
    turn = column.value_type if kinds.is_list(column) or kinds.is_large_list(column) else None
    fields = {field.name: field.type for field in turn} if turn is not None and kinds.is_struct(turn) else {}
    texts = [
        next((fields[name] for name in names if name in fields), column) for names in (SPEAKER_FIELDS, TEXT_FIELDS)
    ]
    if not all(kinds.is_string(text) or kinds.is_large_string(text) for text in texts) or not fields:
        raise DataError(
            f"the column conversations of {what} holds no lists of turns",
            given=column,
            allowed="list<struct<from: string, value: string>>, or role and content",
            todo="write it as such, for example with datasets: [{'from': Value('string'), 'value': Value('string')}]",
        )


def holds_pictures(schema: pa.Schema) -> bool:
    """Whether rows may hold their pictures as bytes, where others only name them."""
    import pyarrow.types as kinds

    columns = [schema.field(name).type for name in _PICTURES if name in schema.names]
    pictures = [kind.value_type if kinds.is_list(kind) or kinds.is_large_list(kind) else kind for kind in columns]
    return any(
        is_raw_picture(kind) or (kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0) for kind in pictures
    )


def is_raw_picture(kind: pa.DataType) -> bool:
    """Whether a column holds pictures' bytes themselves, without the Hub's struct."""
    import pyarrow.types as kinds

    return kinds.is_binary(kind) or kinds.is_large_binary(kind)
