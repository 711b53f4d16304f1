"""A file read at given places by many processes at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


class PositionedFile:
    """Reads bytes at an offset; each process, forked or spawned, opens its own handle when it first reads."""

    def __init__(self, path: Path):
        self.path = path
        self._opened: tuple[int, BinaryIO] | None = None  # by which process

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``; fewer where the file ends before."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open(self.path, "rb", buffering=0))  # noqa: SIM115, closed with this object
        return os.pread(self._opened[1].fileno(), size, offset)

    def __getstate__(self) -> dict:
        return {"path": self.path, "_opened": None}
