"""Room on the disk, asked for before minutes of work and not found missing after them."""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import DiskSpaceError


def require_space(folder: Path | str, needed: float, *, output: Path | str) -> None:
    """Raise :class:`~.errors.DiskSpaceError` where the disk of ``folder`` has less than ``needed`` bytes free.

    Args:
        folder: an existing folder on the disk that is written to.
        output: the bundle as the user knows it, for the message.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskSpaceError(
            f"the disk of '{Path(output).absolute().parent}' cannot hold the bundle",
            given=f"{free / 1e6:,.1f} MB free",
            allowed=f"about {needed / 1e6:,.1f} MB",
            todo="free some space, or choose another --output",
        )
