"""Fetch the real parts and make folders of them.

    python examples/real_parts [--output DIR] [--only NAME …]

Downloads and folders lie in one cache, so a second run finds everything. See docs/real-parts.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# "python examples/real_parts" puts the folder itself first, where its modules have common names (packages, pictures).
sys.path[0] = str(Path(__file__).resolve().parents[1])


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    from real_parts.cache import default_folder
    from real_parts.parts import PARTS

    parser = argparse.ArgumentParser(prog="real_parts", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=default_folder(),
        metavar="DIR",
        help="where downloads and folders lie (default: $LACO_REAL_PARTS, or laco-export/real-parts in the user's "
        "cache: %(default)s)",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--debug", action="store_true", help="show an error's traceback")
    return parser


def main() -> int:
    """Make what is missing; 1 where a part could not be made."""
    arguments = build_parser().parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub
    os.environ.setdefault("TQDM_DISABLE", "1")  # the steps show progress
    from laco_export.console import run_command
    from real_parts.making import make_parts
    from real_parts.parts import PARTS

    parts = [PARTS[name] for name in arguments.only or PARTS]
    return run_command(lambda: make_parts(parts, arguments.output), debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
