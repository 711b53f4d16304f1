"""Points lost from benchmarks and calibrations; asking is tested on a bundle that answers (commands/test_plan.py)."""

import json

import pytest

from laco_engines.plan.quality import BenchmarkScores, CalibrationRecords, choose_reference
from laco_export.errors import UsageError

from .tables import model


def calibrated(name, source, *, llm="int4", **changes):
    """An eight-bit bundle that was made of ``source``, whose calibration asked a hundred questions."""
    graph = source.bundle.graph_sha256(source.bundle.manifest.vision.graphs[0])
    record = {"source_graph_sha256": graph, "answers": {"questions": 100, "same": 95}}
    return model(name, precision="int8", llm=llm, calibration={**record, **changes})


def test_a_calibration_tells_of_its_own_source_alone():
    source, other = model("source"), model("other")
    judged = CalibrationRecords(source)
    drop = judged.recorded(calibrated("int8", source))
    assert drop.value == pytest.approx(5.0) and drop.low < 5.0 < drop.high
    assert judged.recorded(source).value == 0
    for silent in (
        other,
        calibrated("of another", other),
        calibrated("not asked", source, answers=None),
        calibrated("with another language model", source, llm="fp32"),
    ):  # fmt: skip
        assert not judged.can_tell(silent)


def test_a_benchmark_is_read_by_any_name_of_a_model(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"one": 70, "two@1/2": 71.5}))
    models = [model("one"), model("two")]
    scores = BenchmarkScores(path, models[0], models)
    assert [scores.drop(each).value for each in models] == [0, -1.5]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"one": "good"}', '{"one": NaN}', '{"one": true}'])
def test_what_is_no_benchmark_is_refused(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"scores\.json"):
        BenchmarkScores(path, model("one"), [model("one")])


def test_the_reference_is_the_first_or_the_one_that_is_named():
    models = [model("one"), model("two")]
    assert choose_reference(models, None) is models[0]
    assert choose_reference(models, "two") is models[1]
    with pytest.raises(UsageError, match="--reference") as raised:
        choose_reference(models, "three")
    assert raised.value.allowed == "one, two"
