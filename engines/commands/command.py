"""What a subcommand is, and the argument types that they share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: as typed.
        help: one line.
        add_arguments: declares its arguments (``--debug`` is added to all).
        run: does the work; returns an exit code, or None for 0. Errors are raised as ``LacoError``.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]


def add_depth_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """``--at``, of a command that uses a bundle at one depth.

    Args:
        default: what is used where none is named, in words.
    """
    parser.add_argument("--at", metavar="DEPTH", help=f"of a bundle of several depths: 1/2, 1/4+3/4 ({default})")


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1; ``_`` and ``,`` may group its digits."""
    try:
        value = int(text.replace(",", ""))
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return value
