import numpy as np
import pytest

from laco_export.number_formats import ROWS_PER_SCALE, quantize_weight


@pytest.mark.parametrize("kind, step", [("int8", 1 / 127), ("int7", 1 / 63), ("int4", 1 / 7)])
def test_weights_round_by_half_a_step_of_their_own_column(kind, step):
    weight = np.random.default_rng(0).standard_normal((70, 5)).astype(np.float32) * [1e-3, 1, 10, 0.1, 5]
    rounded = quantize_weight(kind, weight)
    for column in range(5):
        rows = ROWS_PER_SCALE if kind == "int4" else 70
        for start in range(0, 70, rows):
            part = weight[start : start + rows, column]
            error = np.abs(rounded.dequantized()[start : start + rows, column] - part).max()
            assert error <= 0.5001 * step * np.abs(part).max()
    assert np.abs(rounded.values).max() <= round(1 / step)


def test_half_scales_are_representable():
    rounded = quantize_weight("int8", np.full((4, 3), 1e-9, np.float32), half_scales=True)
    assert np.array_equal(rounded.scales, rounded.scales.astype(np.float16).astype(np.float32))
    assert (rounded.scales > 0).all()
