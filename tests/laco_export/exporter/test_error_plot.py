"""The chart of ``--bisect``: errors where they are, and a cross where one is out of tolerance."""

import math

import pytest

from laco_export.agreement import Agreement, Tolerance
from laco_export.exporter.error_plot import draw_errors

HALF, BLOCKWISE = Tolerance(0.999, 1e-2, 0.1), Tolerance.of_relative_error(1e-4)
LAYER = "vision_model.encoder.encoder.layers.{}".format


def run(cosines, tolerance):
    names = ["vision_model.embeddings", *(LAYER(block) for block in range(len(cosines) - 1))]
    return [Agreement(name, cosine, 1.0, 0.0, 1.0, cosine, tolerance) for name, cosine in zip(names, cosines)]


def crosses(figure) -> list[tuple[float, float]]:
    """Position and error of each red cross."""
    return [tuple(offset) for offset in figure.axes[0].collections[0].get_offsets()]


def test_the_plot_marks_what_is_out_of_tolerance_and_where():
    assert crosses(draw_errors({"half": run([1, 0.9999, 0.9998, 0.9997], HALF)}, title="t")) == []
    figure = draw_errors({"half": run([1, 0.9999, 0.99, 0.9997], HALF)}, title="t")
    ((place, error),) = crosses(figure)
    assert place == 2 and error == pytest.approx((2 * (1 - 0.99)) ** 0.5, rel=1e-2)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["embeddings", "layers.0", "layers.1", "layers.2"]


@pytest.mark.parametrize("cosine", [0.999, 0.99, math.nan])
def test_a_larger_error_stands_higher(cosine):
    ((_, small),) = crosses(draw_errors({"half": run([0.9999, 1, 1, 1], BLOCKWISE)}, title="t"))
    ((_, large),) = crosses(draw_errors({"half": run([cosine, 1, 1, 1], BLOCKWISE)}, title="t"))
    assert large > small


def test_what_a_block_adds_stands_beside_it_under_its_short_name():
    branch = Agreement(f"{LAYER(0)} minus its input", 0.5, 1.0, 0.0, 1.0, 0.5, HALF)
    figure = draw_errors({"half": [*run([1, 1], HALF), branch]}, title="t")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["embeddings", "layers.0", "what layers.0 adds"]


def test_every_run_has_its_line_and_its_tolerances():
    runs = {f"run {number}": run([1, 0.9999], HALF) for number in range(9)}
    axes = draw_errors(runs, title="a long title " * 40).axes[0]
    assert set(runs) <= {line.get_label() for line in axes.lines}
    assert axes.get_yscale() == "log"
