"""Faults planted into a copy of the source: ``laco-export``, ``laco-calibrate`` or ``laco-engine diff`` must refuse.

Each of them passes all comparisons whose two sides compute the same function: a picture that is prepared wrongly is
prepared wrongly for PyTorch too.
"""

import pytest
from planted_source import COMMANDS, Edit, plant
from source_tree import PACKAGES


@pytest.mark.parametrize(("command", "package"), list(zip(COMMANDS, PACKAGES)), ids=COMMANDS)
def test_the_copy_is_what_runs(tmp_path, command, package):
    path = f"{package}/cli.py"
    source = plant(tmp_path / "source", Edit(path, "from __future__ import annotations\n", "raise SystemExit(71)\n"))
    assert source.run(command, "--help").returncode == 71
