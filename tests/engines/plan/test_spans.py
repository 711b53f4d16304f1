"""The spans in the source are those that the benchmark computes from the public figures."""

import json
from pathlib import Path

import pytest

from laco_engines.plan.spans import DECODE_SPAN, PREFILL_SPAN, VISION_SPAN

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "plan_public_figures.json"


@pytest.mark.parametrize(
    ("part", "span"), [("vision", VISION_SPAN), ("prefill", PREFILL_SPAN), ("decode", DECODE_SPAN)]
)
def test_a_span_is_that_of_the_public_figures(part, span):
    document = json.loads(RESULTS.read_text())
    computed = document["spans"][part]
    assert span.figures == computed["figures"] == len(document[part])
    for end in ("low", "middle", "high"):
        assert getattr(span, end) == pytest.approx(computed[end], rel=0.005)  # three digits
    ratios = [row["published_ms"] / row["floor_ms"] for row in document[part]]
    assert [min(ratios), max(ratios)] == pytest.approx([computed["low"], computed["high"]])
    assert min(ratios) > 1, "a published figure beats a floor, which is none then"
