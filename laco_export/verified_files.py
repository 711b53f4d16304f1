"""The files of a bundle: verified once, and known again whenever one of them is opened.

A bundle may be replaced (``--force``) or changed after it was verified: before its files are opened, or while a process
runs that opens one of them late. So each is opened through here. A file is known by its state, as it was while it was
hashed; where the state is another (a copy has taken its place, a link was made to it, a file system counts its inodes
anew), its SHA-256 decides, as at first.

::

    states = {}
    with open_verified(folder, "vision.data", {"sha256": "…", "bytes": 1024}, states) as file:
        file.read()

What this cannot see is a file that is written into after it was opened: ONNX Runtime maps weights and reads them when
it needs them. The exporter never writes into a file that stands under its name.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import BundleError

_CLOCK_TICK_NS = 20_000_000
"""A file system stamps a change with the time of the last tick, up to 10 ms old: two changes within one look alike."""


@dataclass(frozen=True)
class FileState:
    """What is another when a file was replaced or written into.

    Attributes:
        changed_ns: of content or inode (POSIX; elsewhere when it was made), which no program sets at will.
    """

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, file: BinaryIO) -> FileState:
        state = os.fstat(file.fileno())
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)

    @property
    def is_settled(self) -> bool:
        """Whether a change from now on will show."""
        return time.time_ns() - self.changed_ns > _CLOCK_TICK_NS


class BundleChangedError(BundleError):
    """A file is not what it was when its bundle was verified."""


def open_verified(
    folder: Path, name: str, expected: Mapping, states: MutableMapping[str, FileState], *, root: Path | None = None
) -> BinaryIO:
    """Open a file whose content is the manifest's, for reading from its begin.

    Args:
        expected: ``{"bytes", "sha256"}``.
        states: of the files that were verified before; this one's is added.
        root: ``folder`` resolved, where it is known.

    Raises:
        BundleError: it is missing, no plain file inside the folder, of another size, or of another content.
    """
    file = _open_plain(folder, name, folder.resolve() if root is None else root)
    try:
        state = FileState.of(file)
        if states.get(name) != state:
            _require_content(file, folder / name, expected)
            file.seek(0)
            states.pop(name, None)
            if state.is_settled and FileState.of(file) == state:
                states[name] = state
    except BaseException:
        file.close()
        raise
    return file


def _open_plain(folder: Path, name: str, root: Path) -> BinaryIO:
    path = folder / name
    try:
        real = path.resolve(strict=True)
        plain = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError):  # RuntimeError: a circle of links, before Python 3.13
        plain = False
    if not plain:
        raise BundleError(f"bundle '{folder}' lacks a file", given=name, todo="copy the whole bundle again")
    if not real.is_relative_to(root):
        raise BundleError(
            f"a file of bundle '{folder}' is a link that leads out of it",
            given=f"{name} -> {real}",
            allowed="plain files inside the folder",
            todo="copy the bundle with what its links name: cp -rL",
        )
    # Not blocking: a named pipe that has taken the file's place would wait for a writer.
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _require_content(file: BinaryIO, path: Path, expected: Mapping) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != expected["bytes"]:
        raise damaged(path, f"it has {size:,} bytes where the manifest says {expected['bytes']:,}")
    if _sha256(file) != expected["sha256"]:
        raise damaged(path, "its SHA-256 is not the manifest's")


def damaged(path: Path, reason: str) -> BundleError:
    """The error for a file of a bundle that is not what was written."""
    return BundleError(
        f"'{path}' is damaged: {reason}", todo="copy the bundle again, or export it again; nothing of it was loaded"
    )


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return _sha256(file)


def _sha256(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256_blocks(file)


def _sha256_blocks(file: BinaryIO) -> str:  # Python 3.10, JetPack 6's
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
