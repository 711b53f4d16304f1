"""A manifest's ``files`` that fits whatever a test has written: for bundles of a single file that the test changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from laco_export.verified_files import sha256_of


class FilesAsTheyAre(Mapping):
    """Name → ``{"bytes", "sha256"}`` of each file that is in ``folder`` when it is asked for."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __getitem__(self, name: str) -> dict:
        path = self._folder / name
        if not path.is_file():
            raise KeyError(name)
        return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}

    def __iter__(self) -> Iterator[str]:
        return (path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())

    def __len__(self) -> int:
        return len(list(iter(self)))
