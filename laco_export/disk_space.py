"""Room on the disk, asked for before minutes of work and not found missing after them."""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import DiskSpaceError


def require_space(
    folder: Path | str,
    needed: float,
    *,
    place: Path | str,
    what: str = "the bundle",
    elsewhere: str = "choose another --output",
) -> None:
    """Raise :class:`~.errors.DiskSpaceError` where the disk of ``folder`` has less than ``needed`` bytes free.

    Args:
        folder: an existing folder on the disk that is written to.
        needed: bytes.
        place, what, elsewhere: for the message: the folder as the user knows it, what is to be written into it, and how
            to write it to another disk.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskSpaceError(
            f"the disk of '{place}' cannot hold {what}",
            given=f"{free / 1e6:,.1f} MB free",
            allowed=f"about {needed / 1e6:,.1f} MB",
            todo=f"free some space, or {elsewhere}",
        )
