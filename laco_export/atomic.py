"""Outputs that are complete or absent: written beside their final name, fsynced, renamed.

A folder is built under ``.<name>.partial-<pid>-<random>`` next to where it will stand. If the process fails, the
temporary is removed; if it is killed, the next run that writes to the same name removes what was left. With ``force``
the old folder is exchanged for the new one only when the new one is complete. Without, what has taken the name in the
meantime is left alone: of two runs to one name, the first to end wins and the other is told.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputExistsError

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Of a folder's rename() to a name that a folder with content has, or a file."""


@contextmanager
def new_directory(
    final: Path | str, *, force: bool = False, refuse: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Build a folder that appears under its final name only when the block ends without an error.

    Args:
        refuse: raises an error where what stands under a name may not be replaced. Asked before any work is done, and
            again right before the exchange.

    Yields:
        the temporary folder, a sibling of ``final``.

    Raises:
        OutputExistsError: ``force`` is False and ``final`` stands already, which is seen before any work is done, or
            came to stand there while the block ran.
    """
    final = Path(final).absolute()
    refuse_existing(final, force=force)
    if refuse is not None:
        refuse(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    recover(final)
    partial = _sibling(final, "partial")
    partial.mkdir()
    try:
        yield partial
        _fsync_tree(partial)
        if force:
            _exchange(partial, final, refuse)
        else:
            _take_name(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_existing(final: Path | str, *, force: bool) -> None:
    """Raise :class:`OutputExistsError` when ``final`` stands already and may not be replaced."""
    if not force and os.path.lexists(final):
        raise OutputExistsError(
            f"the output '{final}' exists already",
            allowed="a name that is free, or --force to replace what stands there once the new one is complete",
            todo="choose another --output, or add --force",
        )


def recover(final: Path) -> None:
    """Clear what killed runs left beside ``final``: partial folders go, a set-aside old folder comes back or goes."""
    pattern = re.compile(re.escape(f".{final.name}.") + r"(partial|replaced)-(\d+)-[0-9a-f]+")
    for entry in final.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        # Its own number is an earlier run's: in a container every run may have the same.
        if not match or (int(match[2]) != os.getpid() and _is_alive(int(match[2]))):
            continue
        if match[1] == "replaced" and not os.path.lexists(final):
            os.rename(entry, final)
        else:
            _remove(entry)


def exchange(new: Path | str, final: Path | str) -> None:
    """Put the complete folder ``new`` in the place of ``final``, a sibling, whose old content is removed then.

    For what outlives its process while it is built; :func:`new_directory` is for all else.
    """
    new, final = Path(new).absolute(), Path(final).absolute()
    recover(final)
    _fsync_tree(new)
    _exchange(new, final)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step: readers see the old content or the new, never a part."""
    path = Path(path).absolute()
    partial = _sibling(path, "partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _fsync_path(path.parent)


def write_text(path: Path | str, text: str) -> None:
    """:func:`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: object) -> None:
    """:func:`write_bytes` for a JSON document, indented so that a person can read it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _take_name(partial: Path, final: Path) -> None:
    """Rename the folder, and replace nothing: rename() moves a folder to a free name or over an empty folder only."""
    try:
        os.rename(partial, final)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise OutputExistsError(
            f"the output '{final}' has come to stand there while this one was made, and was left alone",
            allowed="a name that is free until the end, or --force to replace what stands there then",
            todo="look whether another run wrote it; else choose another --output",
        ) from None
    _fsync_path(final.parent)


def _exchange(partial: Path, final: Path, refuse: Callable[[Path], None] | None = None) -> None:
    if not os.path.lexists(final):
        try:
            _take_name(partial, final)
            return
        except OutputExistsError:  # in this instant, and so it is replaced
            pass
    # rename() does not replace a folder that has content: the old one steps aside for an instant. A run killed in that
    # instant leaves it as ".replaced-…", which recover() puts back.
    aside = _sibling(final, "replaced")
    if refuse is not None:
        refuse(final)
    os.rename(final, aside)
    try:
        os.rename(partial, final)
    except BaseException:
        if not os.path.lexists(final):
            os.rename(aside, final)
        raise
    _fsync_path(final.parent)
    _remove(aside)


def _sibling(path: Path, role: str) -> Path:
    return path.parent / f".{path.name}.{role}-{os.getpid()}-{secrets.token_hex(4)}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            _fsync_path(Path(folder) / name)
        _fsync_path(Path(folder))
