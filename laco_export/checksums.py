"""``checksums.json``: SHA-256 of a checkpoint's weight files."""

from __future__ import annotations

import json
from pathlib import Path

from .atomic import write_json
from .errors import CheckpointError
from .verified_files import sha256_of

CHECKSUMS_NAME = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Hash every ``*.safetensors`` of ``folder``."""
    write_json(folder / CHECKSUMS_NAME, {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))})


def verify(folder: Path, weights: list[Path]) -> tuple[dict[str, str], bool]:
    """Hash ``weights`` and compare with ``checksums.json`` where the checkpoint has one.

    Returns:
        the hashes by file name, and whether there was something to compare with.

    Raises:
        CheckpointError: a file's content is not what was saved, or the checksum file itself cannot be read.
    """
    actual = {path.name: sha256_of(path) for path in weights}
    path = folder / CHECKSUMS_NAME
    if not path.is_file():
        return actual, False
    try:
        expected = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError):
        raise CheckpointError(f"'{path}' is damaged", todo="copy the checkpoint again") from None
    for name, digest in actual.items():
        if expected.get(name) != digest:
            raise CheckpointError(
                f"'{folder / name}' is damaged: its SHA-256 is not that of {CHECKSUMS_NAME}",
                todo=f"copy the checkpoint again; if you changed the weights on purpose, delete {CHECKSUMS_NAME}",
            )
    return actual, True
