import json
from pathlib import Path

import pytest

from laco_engines.report.attribution_file import read_attribution
from laco_engines.report.page import _waterfall
from laco_export.bundle import Bundle
from laco_export.errors import UsageError

ROWS = [
    {"part": "merge", "points": 3.0, "feature_error": 0.02, "is_total": False, "token_points": 1.5, "alone": {}},
    {"part": "several parts together", "points": -1.0, "feature_error": None, "is_total": False},
    {"part": "all parts", "points": 2, "feature_error": 0.03, "is_total": True},
]


@pytest.fixture
def written(tmp_path):
    """``written(**changes)``: the file of a found attribution."""

    def write(**changes):
        document = {"bundle": "b", "reference": "r", "depth": "1/2", "bundle_sha256": "ab" * 32, "attribution": ROWS}
        path = tmp_path / "drift.json"
        path.write_text(json.dumps({**document, **changes}))
        return path

    return write


def test_what_a_page_draws_is_read(written):
    stored = read_attribution(written())
    assert stored.rows[0] == {"part": "merge", "points": 3.0, "feature_error": 0.02, "is_total": False}
    assert [row["feature_error"] for row in stored.rows] == [0.02, None, 0.03]
    assert stored.of == "b at depth 1/2, beside r"


def test_it_is_of_one_of_the_reports_bundles(written, make_manifest):
    stored = read_attribution(written())
    bundles = [Bundle(Path(name), make_manifest(), {"sha256": name * 32, "bytes": 1}) for name in ("cd", "ab")]
    stored.require_one_of(bundles)
    with pytest.raises(UsageError, match="none of the report's bundles: it is of b at depth 1/2") as error:
        stored.require_one_of(bundles[:1])
    assert "cdcd" in error.value.allowed and "abab" in error.value.given


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"attribution": []}, "no parts"),
        ({"attribution": ROWS[:1]}, "no parts with their whole"),
        ({"attribution": [{"part": "merge"}]}, "KeyError"),
        ({"attribution": None}, "TypeError"),
        ({"attribution": [{**ROWS[0], "points": float("nan")}]}, "not finite"),
        ({"bundle_sha256": 3}, "no parts"),
    ],
)
def test_another_document_is_refused(written, changes, holds):
    with pytest.raises(UsageError, match="cannot be read") as error:
        read_attribution(written(**changes))
    assert holds in error.value.given


def test_what_is_no_document_is_refused(tmp_path):
    for content in (b"drift", b"[]", b"\xff\xfe"):
        (tmp_path / "drift.json").write_bytes(content)
        with pytest.raises(UsageError, match="cannot be read"):
            read_attribution(tmp_path / "drift.json")
    with pytest.raises(UsageError, match="is not a file"):
        read_attribution(tmp_path)


def test_each_bar_begins_where_the_one_before_ends_and_the_wholes_at_zero():
    bars = [(round(bar["left"], 3), round(bar["width"], 3), bar["is_gain"]) for bar in _waterfall(ROWS)]
    assert bars == [(0, 100, False), (66.667, 33.333, True), (0, 66.667, False)]
