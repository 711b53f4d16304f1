"""What the tiny encoder starts with."""

import math

import pytest

from laco_training.tiny.encoder_pretraining import GRID, position_table


def test_positions_are_sines_and_cosines_of_column_and_row():
    table = position_table(8)
    assert table.shape == (GRID * GRID, 8)
    row, column = 1, 3
    angles = [column, column / 100, row, row / 100]  # two frequencies: 1 and 10,000^(-1/2)
    waves = [wave(angle) for pair in (angles[:2], angles[2:]) for wave in (math.sin, math.cos) for angle in pair]
    assert table[row * GRID + column].tolist() == pytest.approx(waves, abs=1e-6)
