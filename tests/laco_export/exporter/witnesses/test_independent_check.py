"""Two computations agree, or the case in which they differ is named."""

import numpy as np
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.witnesses.independent_check import compare_cases

VALUES = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)


def compared(computed, expected=VALUES, **options):
    return compare_cases("values", "a witness", [("first", VALUES, VALUES), ("second", computed, expected)], **options)


def test_rounding_is_allowed():
    check = compared(VALUES * np.float32(1 + 1e-6))
    assert (check.cases, check.largest) == (2, 3.0)
    assert 0 < check.max_abs < 1e-5
    assert compared(np.zeros((3, 4)), np.zeros((3, 4))).max_abs == 0


@pytest.mark.parametrize(
    "computed",
    [VALUES + 1e-3, VALUES.T, VALUES[:2], np.where(VALUES > 2.9, np.nan, VALUES), np.roll(VALUES, 1, 0)],
    ids=["another value", "another shape", "a row less", "NaN", "rolled"],
)
def test_all_else_is_refused_and_named(computed):
    with pytest.raises(ExportError, match="values are not those of a witness") as refusal:
        compared(computed)
    assert refusal.value.given.startswith("second: ")


def test_nothing_is_not_enough():
    with pytest.raises(ExportError, match="on nothing"):
        compare_cases("values", "a witness", [])


def test_ids_are_the_same_or_not():
    with pytest.raises(ExportError):
        compared(np.arange(3) + (np.arange(3) == 2), np.arange(3), rounding=0)
