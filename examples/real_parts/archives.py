"""Members of a wheel (a zip) and of a Debian package (an ``ar`` of tars), read in place."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .packages import PackageError

_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60


def wheel_member(wheel: Path, name: str) -> bytes:
    """The content of a wheel's file ``name``.

    Raises:
        PackageError: the wheel is damaged or holds no such file.
    """
    with _opened(wheel) as archive:
        return _member(archive, wheel, name).read()


def append_wheel_member(wheel: Path, name: str, file: BinaryIO) -> None:
    """Write a wheel's file ``name`` at the end of ``file``, by blocks.

    Raises:
        PackageError: as :func:`wheel_member`.
    """
    with _opened(wheel) as archive, _member(archive, wheel, name) as member:
        shutil.copyfileobj(member, file, 1 << 20)


def debian_files(package: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """``(path, content)`` of a ``.deb``'s regular files whose path, without a leading ``./``, is wanted.

    Raises:
        PackageError: no Debian package, or a damaged one.
    """
    try:
        with open(package, "rb") as file:
            _seek_data(file, package)
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if member.isreg() and is_wanted(name):
                        yield name, archive.extractfile(member).read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise PackageError(f"'{package}' is damaged: {error}", todo="remove it and run again") from None


def _seek_data(file: BinaryIO, package: Path) -> None:
    """Leave ``file`` at the start of ``data.tar.*``. An ar header: name (16), …, size (10) at 48, two bytes."""
    if file.read(len(_AR_MAGIC)) == _AR_MAGIC:
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            if header.startswith(b"data.tar"):
                return
            size = int(header[48:58])
            file.seek(size + size % 2, 1)
    raise PackageError(f"'{package}' is no Debian package", todo="remove it and run again")


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise PackageError(f"'{wheel}' is damaged: {error}", todo="remove it and run again") from None


def _member(archive: zipfile.ZipFile, wheel: Path, name: str):
    try:
        return archive.open(name)
    except KeyError:
        raise PackageError(f"'{wheel.name}' holds no {name}", given=", ".join(archive.namelist()[:8])) from None
