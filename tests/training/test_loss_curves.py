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


def test_what_pictures_were_worth_stands_below():
    looks = [
        {"step": 1, "block": 6, "worth": 0.0, "error": 0.1, "rms_over_text": 3.0, "between_tiles": 0.3},
        {"step": 3, "block": 6, "worth": 0.4, "error": 0.1, "rms_over_text": 2.0, "between_tiles": 0.2},
    ]
    figure = draw_losses({"stage 1": [3.0, 2.0, 1.5], "texts": [1.0, 0.5]}, {"stage 1": looks})
    loss, _, worth, nothing, embeddings, _ = figure.axes
    assert worth.get_legend().get_texts()[0].get_text() == "block 6   last 0.40" and not nothing.axison
    np.testing.assert_allclose(worth.lines[0].get_xydata(), [[1, 0.0], [3, 0.4]])
    np.testing.assert_allclose(worth.containers[0].lines[2][0].get_segments()[1][:, 1], [0.2, 0.6])  # two errors
    assert [list(line.get_ydata()) for line in embeddings.lines] == [[3.0, 2.0], [0.3, 0.2]]
    assert worth.get_xlim() == loss.get_xlim()


def test_each_block_has_a_line_of_its_own():
    look = {"error": 0.1, "rms_over_text": 3.0, "between_tiles": 0.3}
    looks = [{**look, "step": step, "block": 3 * (1 + step % 2), "worth": step / 10} for step in range(1, 7)]
    _, worth, _ = draw_losses({"stage 1": [1.0] * 6}, {"stage 1": looks}).axes
    lines = [container.lines[0].get_xydata() for container in worth.containers]
    np.testing.assert_allclose(lines[0], [[2, 0.2], [4, 0.4], [6, 0.6]])
    np.testing.assert_allclose(lines[1], [[1, 0.1], [3, 0.3], [5, 0.5]])


def test_a_part_that_distilled_shows_what_each_depth_costs():
    prices = [
        {
            "step": step,
            "1/2": {"relative_error": 0.4 - step / 10, "cosine": 0.8},
            "1": {"relative_error": 0.1, "cosine": 1},
        }
        for step in (0, 2)
    ]
    figure = draw_losses({"stage-distil": [1.0, 0.5], "stage-1": [2.0]}, prices={"stage-distil": prices})
    _, _, errors, nothing, cosines, _ = figure.axes
    np.testing.assert_allclose(errors.lines[0].get_xydata(), [[0, 0.4], [2, 0.2]])
    assert [text.get_text() for text in errors.get_legend().get_texts()] == ["1/2   last 0.200", "1   last 0.100"]
    assert not nothing.axison and list(cosines.lines[1].get_ydata()) == [1, 1]
