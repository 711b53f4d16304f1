"""``laco-engine``: run bundles. The subcommands are the table of :mod:`laco_engines.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from laco_export import __version__
from laco_export.console import run_command
from laco_export.utf8 import restart_in_utf8

from .commands import COMMANDS


def build_parser() -> argparse.ArgumentParser:
    """The parser with one subparser per entry of :data:`COMMANDS`."""
    parser = argparse.ArgumentParser(prog="laco-engine", description="Run LaCo bundles.")
    parser.add_argument("--version", action="version", version=f"laco-engine {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        description = f"{command.help[0].upper()}{command.help[1:]}."  # capitalize() would write "tensorrt"
        subparser = subparsers.add_parser(command.name, help=command.help, description=description)
        command.add_arguments(subparser)
        subparser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        subparser.set_defaults(command=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    if argv is None:
        restart_in_utf8()
    args = build_parser().parse_args(argv)
    return run_command(lambda: args.command.run(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
