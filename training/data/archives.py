"""Files inside a zip or a tar, read in any order without extracting them.

The archive's table of contents is read once, by ``zipfile`` or ``tarfile``, and kept as flat arrays: 48 bytes and the
name for each file, where ``zipfile`` keeps half a kilobyte. Worker processes that are forked share them. A file is read
at its own offset on a handle that each process opens for itself, so no position is shared.
"""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import DataError
from .positioned_file import PositionedFile

_STORED, _DEFLATED = 0, 8  # zip's methods
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, lengths of the name and of the extra field
_NO_CHECK = -1  # a tar holds no checksum of its files


class Archive:
    """Random access to the files of a zip or an uncompressed tar.

    Raises:
        DataError: the file is no such archive, or is cut off.
    """

    def __init__(self, path: Path):
        self.path, self._file = path, PositionedFile(path)
        try:
            members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
            self._index = _Index(members)
        except FileNotFoundError:
            raise DataError(f"there is no archive '{path}'") from None
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise DataError(
                f"archive '{path}' cannot be read: {error}",
                allowed=".zip, or .tar without compression (a compressed one cannot be read from the middle)",
            ) from None

    def __len__(self) -> int:
        return len(self._index)

    def read(self, name: str) -> bytes:
        """One file's bytes.

        Raises:
            DataError: the archive has no such file, or its bytes are damaged or encrypted.
        """
        place = self._index.find(name)
        if place is None:
            raise DataError(f"archive '{self.path}' holds no file '{name}'")
        offset, packed, size, method, check = place
        if self.path.suffix == ".zip":
            offset = self._after_local_header(offset, name)
        data = self._file.read(offset, packed)
        try:
            if method == _DEFLATED:
                data = zlib.decompress(data, -zlib.MAX_WBITS, bufsize=size)
        except zlib.error as error:
            raise DataError(f"'{name}' in archive '{self.path}' is damaged: {error}") from None
        if len(data) != size or check not in (_NO_CHECK, zlib.crc32(data)):
            raise DataError(f"'{name}' in archive '{self.path}' is damaged or cut off")
        return data

    def names(self) -> list[str]:
        """All files by full name, sorted."""
        return self._index.under("")

    def folder(self, name: str) -> list[str]:
        """The files directly or further down in a folder of the archive, by full name."""
        return self._index.under(name.rstrip("/") + "/")

    def _after_local_header(self, offset: int, name: str) -> int:
        header = self._file.read(offset, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise DataError(f"'{name}' in archive '{self.path}' is damaged or cut off")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        return offset + _LOCAL_HEADER.size + name_length + extra_length


Member = tuple[str, int, int, int, int, int]
"""Name, offset, bytes in the archive, bytes unpacked, method, CRC-32."""


def _zip_members(path: Path) -> Iterable[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.flag_bits & 1 or entry.compress_type not in (_STORED, _DEFLATED):
                raise DataError(
                    f"'{entry.filename}' in archive '{path}' is encrypted or packed in an unusual way",
                    allowed="stored or deflated files",
                )
            yield (
                entry.filename,
                entry.header_offset,
                entry.compress_size,
                entry.file_size,
                entry.compress_type,
                entry.CRC,
            )


def _tar_members(path: Path) -> Iterable[Member]:
    with tarfile.open(path, "r:") as archive:
        while (entry := archive.next()) is not None:
            archive.members = []  # tarfile would keep an object for each file
            if entry.isreg():
                yield entry.name, entry.offset_data, entry.size, entry.size, _STORED, _NO_CHECK


class _Index:
    """Members sorted by name: all names as one run of bytes, numbers as one array."""

    def __init__(self, members: Iterable[Member]):
        names, numbers = [], []
        for name, *values in members:
            names.append(name.removeprefix("./").encode("utf-8", "surrogateescape"))
            numbers.append(tuple(values))
        # Stable: of several files of one name the last one counts, as when the archive is extracted.
        order = sorted(range(len(names)), key=names.__getitem__)
        self._names = b"".join(names[i] for i in order)
        self._ends = np.cumsum([len(names[i]) for i in order], dtype=np.int64)
        self._numbers = np.array([numbers[i] for i in order], np.int64).reshape(-1, 5)

    def __len__(self) -> int:
        return len(self._ends)

    def find(self, name: str) -> list[int] | None:
        key = name.removeprefix("./").encode("utf-8", "surrogateescape")
        position = bisect_right(range(len(self)), key, key=self._name) - 1
        return self._numbers[position].tolist() if position >= 0 and self._name(position) == key else None

    def under(self, prefix: str) -> list[str]:
        start = prefix.removeprefix("./").encode("utf-8", "surrogateescape")
        names = []
        for position in range(bisect_left(range(len(self)), start, key=self._name), len(self)):
            if not (name := self._name(position)).startswith(start):
                break
            names.append(name.decode("utf-8", "surrogateescape"))
        return names

    def _name(self, position: int) -> bytes:
        return self._names[self._ends[position - 1] if position else 0 : self._ends[position]]
