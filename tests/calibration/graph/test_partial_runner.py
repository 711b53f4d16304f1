import ml_dtypes
import numpy as np
import pytest
import torch

from laco_calibration.graph.partial_runner import rounded
from laco_export.number_formats import scaling


@pytest.mark.parametrize("kind, low, high", [("int8", -3.0, 2.0), ("uint8", -1.0, 4.0), ("uint8", 0.0, 4.0)])
def test_values_inside_the_range_round_by_half_a_step(kind, low, high):
    input_scaling = scaling(kind, low, high)
    values = torch.linspace(low, high, 1001)
    # The zero point is a whole number, so the ends of an asymmetric range may lie half a step outside.
    slack = 1.0 if kind == "uint8" else 0.5
    assert float((rounded(values, input_scaling) - values).abs().max()) <= slack * input_scaling.scale * 1.001
    assert float(rounded(torch.zeros(1), input_scaling)) == 0.0


def test_values_outside_are_clipped():
    input_scaling = scaling("int8", -1.0, 1.0)
    assert float(rounded(torch.tensor([50.0]), input_scaling)) == pytest.approx(1.0)


def test_fp8_is_the_format_itself():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    input_scaling = scaling("fp8", -4.0, 4.0)
    expected = (np.clip(values / input_scaling.scale, -448, 448)).astype(ml_dtypes.float8_e4m3fn).astype(
        np.float32
    ) * input_scaling.scale
    assert np.array_equal(rounded(torch.from_numpy(values), input_scaling).numpy(), expected)
