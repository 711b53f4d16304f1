import ml_dtypes
import numpy as np
import pytest
import torch

from laco_calibration.graph.partial_runner import rounded
from laco_export.number_formats import ROWS_PER_SCALE, quantize_weight, scaling


@pytest.mark.parametrize("kind, low, high", [("int8", -3.0, 2.0), ("uint8", -1.0, 4.0), ("uint8", 0.0, 4.0)])
def test_values_inside_the_range_round_by_half_a_step(kind, low, high):
    how = scaling(kind, low, high)
    values = torch.linspace(low, high, 1001)
    # The zero point is a whole number, so the ends of an asymmetric range may lie half a step outside.
    slack = 1.0 if kind == "uint8" else 0.5
    assert float((rounded(values, how) - values).abs().max()) <= slack * how.scale * 1.001
    assert float(rounded(torch.zeros(1), how)) == 0.0


def test_values_outside_are_clipped():
    how = scaling("int8", -1.0, 1.0)
    assert float(rounded(torch.tensor([50.0]), how)) == pytest.approx(1.0)


def test_fp8_is_the_format_itself():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    how = scaling("fp8", -4.0, 4.0)
    expected = (np.clip(values / how.scale, -448, 448)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * how.scale
    assert np.array_equal(rounded(torch.from_numpy(values), how).numpy(), expected)


@pytest.mark.parametrize("kind, step", [("int8", 1 / 127), ("int7", 1 / 63), ("int4", 1 / 7)])
def test_weights_round_by_half_a_step_of_their_own_column(kind, step):
    weight = np.random.default_rng(0).standard_normal((70, 5)).astype(np.float32) * [1e-3, 1, 10, 0.1, 5]
    found = quantize_weight(kind, weight)
    for column in range(5):
        rows = ROWS_PER_SCALE if kind == "int4" else 70
        for start in range(0, 70, rows):
            part = weight[start : start + rows, column]
            error = np.abs(found.dequantized()[start : start + rows, column] - part).max()
            assert error <= 0.5001 * step * np.abs(part).max()
    assert np.abs(found.values).max() <= round(1 / step)


def test_half_scales_are_representable():
    found = quantize_weight("int8", np.full((4, 3), 1e-9, np.float32), half_scales=True)
    assert np.array_equal(found.scales, found.scales.astype(np.float16).astype(np.float32))
    assert (found.scales > 0).all()
