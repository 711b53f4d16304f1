import json

import numpy as np
import pytest
import torch

from laco_calibration.statistics.histogram import BINS, Histogram


def _tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(50, 6, generator=generator) * scale for scale in (0.01, 1.0, 30.0, 0.5)]


def _histogram(tensors) -> Histogram:
    histogram = Histogram()
    for tensor in tensors:
        histogram.add(tensor)
    return histogram


def _same(first: Histogram, second: Histogram) -> bool:
    return (
        (first.counts == second.counts).all()
        and (first.exponent, first.low, first.high) == (second.exponent, second.low, second.high)
        and (first.channel_max == second.channel_max).all()
    )


def test_counts_every_value_in_its_bin():
    tensors = _tensors()
    values = torch.cat(tensors).numpy().ravel()

    histogram = _histogram(tensors)

    expected, _ = np.histogram(values, BINS, (-histogram.limit, histogram.limit))
    assert histogram.total == values.size
    assert histogram.limit / 2 < np.abs(values).max() <= histogram.limit
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= 2  # values on a bin's edge
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert np.array_equal(histogram.channel_max, torch.cat(tensors).abs().amax(0).numpy())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_parts_add_up_exactly_in_any_order(order):
    tensors = _tensors()
    merged = Histogram()
    for index in order:
        merged.merge(_histogram([tensors[index]]))

    assert _same(merged, _histogram(tensors))
    assert _same(_histogram([tensors[index] for index in order]), _histogram(tensors))


def test_survives_json():
    histogram = _histogram(_tensors())
    assert _same(Histogram.from_json(json.loads(json.dumps(histogram.to_json()))), histogram)
    assert Histogram.from_json(json.loads(json.dumps(Histogram().to_json()))).exponent is None


def test_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="inf or NaN"):
        Histogram().add(torch.tensor([[1.0, float("nan")]]))


def test_a_value_just_below_a_bins_edge_counts_alike_in_every_range():
    """Whatever came before it: bins are chosen without rounding."""
    edges = torch.arange(-0.5, 0.5, 1 / 64)
    near = torch.nextafter(edges, torch.full_like(edges, -1.0))[:, None]
    wide, wider = torch.tensor([[0.9]]), torch.tensor([[1.9]])
    assert _same(_histogram([near, wide, wider]), _histogram([wider, near, wide]))
