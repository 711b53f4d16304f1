import dataclasses

import numpy as np
import pytest

from laco_engines.report.drift import tower_drift
from laco_export.agreement import agreement


def test_errors_by_block_are_the_relative_ones(make_manifest):
    drift = tower_drift(make_manifest())
    assert [block.name for block in drift.blocks] == ["layer.0", "block_1", "image_features"]
    assert drift.blocks[1].error == pytest.approx(0.25)  # a quarter of the norm is lost and nothing else
    assert drift.blocks[0].error == pytest.approx((1 + 1.01**2 - 2 * 1.01 * 0.9999) ** 0.5)
    assert drift.blocks[2].error is None
    assert (drift.judged_by, drift.pictures, drift.points) == ("half arithmetic", 2, None)


def test_the_error_is_that_of_the_tensors(make_manifest):
    values = np.random.default_rng(0)
    expected = values.standard_normal((1, 5, 8), np.float32)
    actual = expected + 0.1 * values.standard_normal((1, 5, 8), np.float32)
    compared = {**agreement("x.layer.3", expected, actual).to_dict(), "tolerance": None}
    (block,) = tower_drift(make_manifest(accuracy={"tensors": [compared]})).blocks
    assert block.error == pytest.approx(np.linalg.norm(actual - expected) / np.linalg.norm(expected), rel=1e-5)


def test_what_is_not_there_is_not_made_up(make_manifest):
    assert tower_drift(make_manifest(accuracy={})) is None
    vision = dataclasses.replace(make_manifest().vision, calibration={"points": 0.4})
    assert tower_drift(make_manifest(vision=vision)).points == 0.4
