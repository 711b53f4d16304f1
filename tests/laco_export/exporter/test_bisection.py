import json
import math

import numpy as np
import pytest
from PIL import Image

from laco_export.agreement import Agreement, Tolerance
from laco_export.exporter.bisection import FUSION_NOTE, Bisection
from laco_export.exporter.error_plot import draw_errors

HALF, BLOCKWISE = Tolerance(0.999, 1e-2, 0.1), Tolerance.of_relative_error(1e-4)
LAYER = "vision_model.encoder.encoder.layers.{}".format
RED = (200, 0, 0)


def run(cosines, tolerance):
    names = ["vision_model.embeddings", *(LAYER(block) for block in range(len(cosines) - 1))]
    return [Agreement(name, cosine, 1.0, 0.0, 1.0, cosine, tolerance) for name, cosine in zip(names, cosines)]


def bisection(rewritten, half):
    return Bisection({"rewritten": run(rewritten, BLOCKWISE), "half": run(half, HALF)}, "fp16", "half")


def test_a_wrong_rewrite_is_told_before_the_precision():
    bisected = bisection([1, 1, 0.9999, 1], [1, 0.99, 0.98, 0.97])
    assert bisected.first[0] == "rewritten"
    assert bisected.to_json()["first_drifting"] == LAYER(1)
    assert f"the first block that drifts is {LAYER(1)}, in rewritten" in bisected.sentence


def test_otherwise_the_first_block_that_half_cannot_follow():
    bisected = bisection([1, 1, 1, 1], [1, 0.9995, math.nan, 0.97])
    assert (bisected.first[0], bisected.first[1].name) == ("half", LAYER(1))


def test_a_branch_is_named_by_its_module():
    branch = Agreement(f"{LAYER(2)} minus its input", 0.5, 1.0, 0.0, 1.0, 0.5, HALF)
    assert Bisection({"half": [branch]}, "fp16", "half").to_json()["first_drifting"] == LAYER(2)


def test_without_drift_the_furthest_of_the_deciding_run_is_told():
    sentence = bisection([0.9999999999] * 4, [1, 0.9999, 0.9995, 0.9999]).sentence
    assert "no block is out of tolerance" in sentence
    assert f"in half, is {LAYER(1)} (cosine 0.9995" in sentence


def test_the_report_and_the_plot_stand_beside_the_bundles_place(tmp_path):
    report, plot = bisection([1, 1, 1, 1], [1, 1, 1, math.nan]).write(tmp_path / "new" / "bundle")
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == ["bundle.bisect.json", "bundle.bisect.png"]
    document = json.loads(report.read_text())
    assert document["note"] == FUSION_NOTE
    assert "does not fuse across them" in document["note"]
    assert document["first_drifting"] == LAYER(2)
    last = document["runs"]["half"][-1]
    assert (last["cosine"], last["relative_error"], last["within"]) == (None, None, False)  # JSON has no NaN
    assert last["tolerance"] == {"cosine": 0.999, "norm_drift": 1e-2, "max_abs": 0.1}
    assert Image.open(plot).format == "PNG"


def red_columns(image):
    pixels = np.asarray(image)
    return np.flatnonzero((pixels == RED).all(-1).any(0))


def test_the_plot_marks_what_is_out_of_tolerance_and_where():
    good = draw_errors({"half": run([1, 0.9999, 0.9998, 0.9997], HALF)}, title="t")
    assert not len(red_columns(good))
    bad = draw_errors({"half": run([1, 0.9999, 0.99, 0.9997], HALF)}, title="t")
    assert bad.size == good.size
    red = red_columns(bad)
    assert len(red)
    third = 90 + (1280 - 90 - 30) * 2.5 / 4  # the third of four names
    assert abs(red.mean() - third) < 2


@pytest.mark.parametrize("cosine", [0.999, 0.99, math.nan])
def test_a_larger_error_stands_higher(cosine):
    small = draw_errors({"half": run([0.9999, 1, 1, 1], BLOCKWISE)}, title="t")
    large = draw_errors({"half": run([cosine, 1, 1, 1], BLOCKWISE)}, title="t")
    height = lambda image: np.flatnonzero((np.asarray(image) == RED).all(-1).any(1)).min()
    assert height(large) < height(small)
