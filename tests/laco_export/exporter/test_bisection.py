import json
import math

from PIL import Image

from laco_export.agreement import Agreement, Tolerance
from laco_export.exporter.bisection import FUSION_NOTE, Bisection

HALF, BLOCKWISE = Tolerance(0.999, 1e-2, 0.1), Tolerance.of_relative_error(1e-4)
LAYER = "vision_model.encoder.encoder.layers.{}".format


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
