"""The subcommands of ``laco-engine``: one file each, one line each in :data:`COMMANDS`.

A command's module imports nothing heavy at its top, since all of them are read for ``--help``.
"""

from __future__ import annotations

from .build import BUILD
from .chat import CHAT
from .command import Command
from .diff import DIFF
from .inspect import INSPECT
from .run import RUN

COMMANDS: tuple[Command, ...] = (RUN, CHAT, DIFF, INSPECT, BUILD)

__all__ = ["COMMANDS", "Command"]
