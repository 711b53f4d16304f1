"""NumPy arrays of a bundle, whose dtype and shape are checked in their headers before anything is read.

An array takes as much memory as its header says, whatever the file's size: a zip of 8 MB may hold one of 7.5 GB. So a
reader says first what it takes.
"""

from __future__ import annotations

import lzma
import math
import tokenize
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np

from .errors import BundleError

Accepts = Callable[[np.dtype, tuple[int, ...]], bool]
"""Whether an array of this dtype and shape is what the reader takes."""

# What zipfile, its decompressors and numpy's header (a Python literal) raise for a file that is not theirs.
_BROKEN = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, OverflowError),
    *(SyntaxError, RecursionError, MemoryError, UnicodeError),
    *(BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)


class ArrayArchive:
    """An open ``.npz``; see :func:`open_arrays`."""

    def __init__(self, path: Path, archive: ZipFile):
        self._path, self._archive = path, archive
        self.names = [name.removesuffix(".npy") for name in archive.namelist()]

    def read(self, name: str, accepts: Accepts, allowed: str) -> np.ndarray:
        """The array ``name``.

        Args:
            accepts: its dtype and shape; allowed: the same in words.

        Raises:
            BundleError: there is none, it is another, or it is cut off.
        """
        if name not in self.names:
            raise _unreadable(self._path, f"it has no array '{name}'")
        with self._archive.open(f"{name}.npy") as file:
            return _read(file, self._path, f"'{name}'", accepts, allowed)


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayArchive]:
    """A ``.npz``'s arrays.

    Raises:
        BundleError: it is none, or one of its arrays cannot be read (also where that happens in the block).
    """
    try:
        with ZipFile(path) as archive:
            yield ArrayArchive(path, archive)
    except BundleError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, type(error).__name__) from None


def read_array(path: Path, accepts: Accepts, allowed: str) -> np.ndarray:
    """The array of a ``.npy``; see :meth:`ArrayArchive.read`."""
    try:
        with open(path, "rb") as file:
            return _read(file, path, "it", accepts, allowed)
    except BundleError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, type(error).__name__) from None


def _read(file: BinaryIO, path: Path, name: str, accepts: Accepts, allowed: str) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, column_first, dtype = read_header(file)
    if column_first or dtype.hasobject or min(shape, default=1) < 0 or not accepts(dtype, shape):
        order = ", column by column" if column_first else ""
        raise _unreadable(path, f"{name} holds something else", f"{dtype} {list(shape)}{order}"[:200], allowed)
    values = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    filled = 0
    while filled < len(values):
        count = file.readinto(memoryview(values)[filled:])
        if not count:
            raise _unreadable(path, f"{name} is cut off")
        filled += count
    return values.view(dtype).reshape(shape)


def _unreadable(path: Path, reason: str, holds: str | None = None, allowed: str | None = None) -> BundleError:
    return BundleError(
        f"'{path}' cannot be read: {reason}",
        given=holds,
        allowed=allowed,
        todo="copy the bundle again, or export it again",
    )
