import numpy as np
import pytest
import torch

from laco_calibration.statistics.histogram import Histogram
from laco_calibration.statistics.thresholds import METHODS, PERCENTILE, clip_range


def _of(values) -> Histogram:
    histogram = Histogram()
    histogram.add(torch.as_tensor(np.asarray(values, np.float32)).reshape(-1, 1))
    return histogram


def _with_tail() -> np.ndarray:
    """A bell of 100,000 values and five that lie a hundred times further out."""
    values = np.random.default_rng(0).standard_normal(100_000)
    return np.append(values, [90.0, -100.0, 80.0, 95.0, -85.0])


def test_max_is_the_largest_magnitude():
    assert METHODS["max"].threshold(_of(_with_tail())) == 100.0


def test_percentile_leaves_the_share_outside():
    values = np.abs(_with_tail())
    threshold = METHODS["percentile"].threshold(_of(values))
    assert threshold == pytest.approx(np.percentile(values, PERCENTILE), rel=0.02)


def test_mse_finds_the_least_error_of_rounding_and_clipping():
    values = _with_tail()[:100_000] ** 3  # heavy tails

    def error(threshold: float) -> float:
        step = threshold / 127
        return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).sum())

    threshold = METHODS["mse"].threshold(_of(values))

    best = min(error(t) for t in np.abs(values).max() * np.geomspace(1, 1 / 16, 200))
    assert error(threshold) <= 1.03 * best < 0.9 * error(np.abs(values).max())


def test_entropy_clips_a_thin_tail_and_keeps_a_flat_distribution():
    assert METHODS["entropy"].threshold(_of(_with_tail())) < 20
    flat = np.random.default_rng(0).uniform(-1, 1, 100_000)
    assert METHODS["entropy"].threshold(_of(flat)) > 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 0.3), np.linspace(0, 5, 1000), -np.linspace(1, 2, 1000)])
def test_never_wider_than_what_was_seen_and_zero_is_inside(method, values):
    low, high = clip_range(_of(values), method)
    assert min(0.0, values.min()) - 1e-6 <= low <= 0 <= high <= max(0.0, values.max()) + 1e-6
