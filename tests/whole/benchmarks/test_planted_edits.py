"""The faults that ``benchmarks/faults.py`` plants into the source can be planted into it as it is."""

import pytest
from fault_cases.planted import CALIBRATED, EDITS, TILED
from planted_source import plant


@pytest.mark.parametrize("name", EDITS)
def test_they_can_be_planted(tmp_path, name):
    plant(tmp_path / "source", *EDITS[name])


def test_what_is_said_of_some_is_said_of_faults_that_there_are():
    assert EDITS.keys() > TILED | CALIBRATED
