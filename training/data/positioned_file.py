"""A file read at given places by many processes at once."""

from __future__ import annotations

import os
from pathlib import Path


class PositionedFile:
    """Reads bytes at an offset; each process, forked or spawned, opens its own handle when it first reads."""

    def __init__(self, path: Path):
        self.path = path
        self._handle: tuple[int, int] | None = None  # (process, file descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset`; fewer where the file ends before."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))
        return os.pread(self._handle[1], size, offset)

    def __getstate__(self) -> dict:
        return {"path": self.path, "_handle": None}
