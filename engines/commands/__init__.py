"""The subcommands of ``laco-engine``: one file each, one line each in :data:`COMMANDS`.

A command's module imports nothing heavy at its top, since all of them are read for ``--help``.
"""

from __future__ import annotations

from .command import Command
from .inspect import INSPECT
from .run import RUN

COMMANDS: tuple[Command, ...] = (RUN, INSPECT)

__all__ = ["COMMANDS", "Command"]
