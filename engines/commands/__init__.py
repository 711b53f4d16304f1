"""The subcommands of ``laco-engine``: one file each, one line each in :data:`COMMANDS`.

A command's module imports nothing heavy at its top, since all of them are read for ``--help``.
"""

from __future__ import annotations

from .bench import BENCH
from .build import BUILD
from .chat import CHAT
from .command import Command
from .diff import DIFF
from .doctor import DOCTOR
from .inspect import INSPECT
from .run import RUN
from .serve import SERVE

COMMANDS: tuple[Command, ...] = (RUN, CHAT, DIFF, INSPECT, BUILD, BENCH, DOCTOR, SERVE)

__all__ = ["COMMANDS", "Command"]
