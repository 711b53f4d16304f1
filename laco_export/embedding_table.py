"""The decoder's input embeddings, read row by row from a file that is never read whole. numpy only.

The file is read, not mapped: for every row that is looked up, the system maps up to 0.5 MB around it. 174 tokens of a
0.5B model in int8 took 75 MB of resident memory, a seventh of its files.

A tied model keeps its embedding once: the rows are those of the decoder's head, in the decoder's own weight file, at
the offset that the manifest records. In an integer precision they are quantised as ONNX Runtime's ``MatMulNBits`` keeps
them, and a row is dequantised when it is looked up::

    row of D weights = blocks of block_size, the last one padded
    8 bits: value = (byte - 128) * scale of its block
    4 bits: value = (nibble - 8) * scale, the even element in the low nibble

    table = EmbeddingTable(bundle.path, bundle.manifest.decoder.embedding)
    table.rows(ids)  # int [...] -> float32 [..., D]
"""

from __future__ import annotations

import math
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import BundleError

STORED_DTYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's bytes in a file of the bundle: little-endian, row after row.

    Attributes:
        file: path in the bundle; ``offset`` in bytes from the file's begin.
        dtype: one of :data:`STORED_DTYPES`.
    """

    file: str
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype not in STORED_DTYPES or self.offset < 0 or min(self.shape, default=0) < 1:
            raise ValueError(f"no stored tensor: dtype {self.dtype}, offset {self.offset}, shape {self.shape}")


class StoredRows:
    """A stored tensor as ``rows`` equal parts, read one by one; several threads may.

    Args:
        folder: the bundle's.
        row_shape: of one row; the tensor holds ``rows`` of them.

    Raises:
        BundleError: the file is missing or too short.
    """

    def __init__(self, folder: Path | str, tensor: StoredTensor, rows: int, row_shape: tuple[int, ...]):
        path = Path(folder) / tensor.file
        self._dtype, self._shape, self._offset = np.dtype(tensor.dtype), row_shape, tensor.offset
        self._row_bytes = self._dtype.itemsize * math.prod(row_shape)
        self._tensor = tensor
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the table
            weakref.finalize(self, self._file.close)
            size, needed = path.stat().st_size, tensor.offset + rows * self._row_bytes
        except OSError as error:
            raise _unreadable(path, str(error), tensor) from None
        if size < needed:
            raise _unreadable(path, f"the file has {size} of {needed} bytes", tensor)

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Rows ``[..., *row_shape]`` of ids ``[...]``."""
        wanted, places = np.unique(ids, return_inverse=True)
        raw_rows = np.empty((len(wanted), self._row_bytes), np.uint8)
        for row, number in zip(raw_rows, wanted.tolist()):  # by pread, since threads share the file and its position
            data = os.pread(self._file.fileno(), self._row_bytes, self._offset + number * self._row_bytes)
            if len(data) != self._row_bytes:
                reason = f"a row gave {len(data)} of {self._row_bytes} bytes"
                raise _unreadable(Path(self._file.name), reason, self._tensor)
            row[:] = np.frombuffer(data, np.uint8)
        return raw_rows.view(self._dtype)[places.reshape(-1)].reshape(*ids.shape, *self._shape)


def _unreadable(path: Path, reason: str, tensor: StoredTensor) -> BundleError:
    return BundleError(
        f"the weights in '{path}' cannot be read: {reason}",
        given=f"{tensor.dtype} {list(tensor.shape)} at byte {tensor.offset}",
        todo="export the bundle again",
    )


@dataclass(frozen=True)
class EmbeddingStorage:
    """Where the rows of the embedding are.

    Attributes:
        rows: ``[V, D]`` of a float dtype, or uint8 ``[V, blocks, block_size * bits / 8]`` where quantised.
        scales: float32 or float16, ``V * blocks`` values, where quantised.
        tied: the decoder's head reads the same bytes.
        bits: 8 or 4, where quantised.
    """

    rows: StoredTensor
    hidden_size: int
    tied: bool
    scales: StoredTensor | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        quantised = self.rows.dtype == "uint8"
        if (self.scales is not None, self.bits in (4, 8), len(self.rows.shape) == 3) != (quantised,) * 3:
            raise ValueError("the embedding has rows of uint8 with scales and bits, or rows of floats without")

    @property
    def vocab_size(self) -> int:
        return self.rows.shape[0]

    @classmethod
    def from_dict(cls, value: dict) -> EmbeddingStorage:
        """From the manifest's JSON."""
        scales = value.get("scales")
        tensors = {"rows": StoredTensor(**value["rows"]), "scales": None if scales is None else StoredTensor(**scales)}
        return cls(**{**value, **tensors})


class EmbeddingTable:
    """The embedding of a bundle; opening it reads nothing but the few pages that are asked for.

    Args:
        folder: the bundle's.

    Raises:
        BundleError: the file is missing or too short.
    """

    def __init__(self, folder: Path | str, storage: EmbeddingStorage):
        self.storage = storage
        count, *row_shape = storage.rows.shape
        self._rows = StoredRows(folder, storage.rows, count, tuple(row_shape))
        self._scales = None
        if storage.scales is not None:
            self._scales = StoredRows(folder, storage.scales, count, (row_shape[0],))  # [V, blocks]

    @property
    def shape(self) -> tuple[int, int]:
        return self.storage.vocab_size, self.storage.hidden_size

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Token ids, integers ``[...]``, to embeddings, float32 ``[..., D]``.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        ids = np.asarray(ids)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.storage.vocab_size):
            raise IndexError(f"token ids must be in 0 … {self.storage.vocab_size - 1}")
        rows = self._rows[ids]
        if self._scales is None:
            return np.asarray(rows, np.float32)
        if self.storage.bits == 4:
            rows = np.stack([rows & 15, rows >> 4], axis=-1).reshape(*rows.shape[:-1], -1)
        values = rows.astype(np.float32) - (1 << self.storage.bits - 1)  # [..., blocks, block_size]
        values *= self._scales[ids][..., None]
        return values.reshape(*ids.shape, -1)[..., : self.storage.hidden_size]
