"""The chart of a run's losses."""

import numpy as np

from laco_training.loss_curves import draw_losses


def test_one_panel_a_part_with_its_last_loss():
    figure = draw_losses({"stage 1": [3.0, 2.0, 1.5], "stage 2": [0.5]})
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["stage 1   last 1.500", "stage 2   last 0.500"]


def test_every_loss_is_drawn_and_a_long_curve_is_smoothed_over_it():
    losses = [2.0 + (-1) ** step for step in range(800)]
    (panel,) = draw_losses({"stage 1": losses}).axes
    raw, means = (line.get_xydata() for line in panel.lines)
    assert len(raw) == 800 and len(means) == 80
    np.testing.assert_allclose(means[:, 1], 2.0)
    np.testing.assert_allclose(means[0, 0], 5.5)  # the middle of steps 1 to 10
