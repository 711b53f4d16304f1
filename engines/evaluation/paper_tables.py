"""The rows of the paper's Tables 1 to 9: scores in per cent, beside which ``laco-engine evaluate`` puts its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_FILE = Path(__file__).parent / "paper_tables.yaml"

PaperScore = float | tuple[float, float] | None
"""Per cent; the two figures of a cell that holds a pair; None of an empty one."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Attributes:
        table: the table's number.
        training: the data that the model was trained on: ``single-image training`` or ``one-vision training``.
        model: as the table names it.
        scores: in the order of the table's columns.
        average: as the paper prints it.
    """

    table: int
    training: str
    model: str
    scores: tuple[PaperScore, ...]
    average: float


@cache
def paper_rows(table: int) -> tuple[PaperRow, ...]:
    """The rows of Table 1 to 9."""
    by_training = yaml.safe_load(_FILE.read_text(encoding="utf-8"))[table]
    return tuple(
        PaperRow(table, training, model, tuple(tuple(c) if isinstance(c, list) else c for c in cells[:-1]), cells[-1])
        for training, rows in by_training.items()
        for model, cells in rows.items()
    )
