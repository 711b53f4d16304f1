"""The page says the document's numbers, lets nothing in or out, and holds what it is given as text."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from page_numbers import PageNumbers, assert_page_says

from laco_engines.devices.host_peaks import HostPeaks
from laco_engines.devices.power import Energy
from laco_engines.report.document import ReportFindings, report_document
from laco_engines.report.drift import tower_drift
from laco_engines.report.first_token import AnswerFloors, answer_times
from laco_engines.report.measuring import SubjectMeasures
from laco_engines.report.page import PageCharts, render_page
from laco_engines.report.scores import judge_answers, score_answers
from laco_export.errors import UsageError

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'so'"
PIXEL = "data:image/jpeg;base64,/9j/"


@pytest.fixture
def make_document(make_asked, make_questions):
    """``make_document(is_full=True)``: of two bundles and four questions; with everything that can be measured or with
    as little as can be."""

    def make(is_full=True, words=MARKUP):
        questions = make_questions(*(("green", words, "red", "two") if is_full else (None,) * 4))
        refused = UsageError("the prompt is too long")
        cost = {"decoder": {"cost": {"kl_mean": 0.0123, "same_where_decided": 0.987, "perplexity_ratio": 1.02}}}
        accuracy = make_asked("x", ["x"]).subject.bundle.manifest.accuracy | cost if is_full else {}
        asked = [
            make_asked("first", ["green", words, "rod", "two"], ["green", words, "rod", "ten"], accuracy=accuracy),
            make_asked("second", ["black", words, "red", refused], accuracy=accuracy),
        ]
        judged = judge_answers(asked, 0, questions)
        floors = AnswerFloors(0.5, 1.25, 0.75, "encode compute-bound") if is_full else AnswerFloors(missing="no floors")
        energy = Energy(7.5, 0.31, 2.0, 100, ("VDD_IN",)) if is_full else None
        measures = [
            SubjectMeasures(
                answer_times(subject), floors, 123_456_789, *((987_654_321, 45_000_000) if is_full else (None, None)),
                energy, tower_drift(subject.subject.bundle.manifest),
            )
            for subject in asked
        ]  # fmt: skip
        findings = ReportFindings(
            title=f"Report {words}",
            made="2026-01-01",
            questions=questions,
            asked=asked,
            reference=0,
            judged=judged,
            scores=[score_answers(judged[0], None), score_answers(judged[1], judged[0])],
            measures=measures,
            peaks=HostPeaks(123e9, 12.3e9, 2, 456e9) if is_full else None,
            gaps=[f"Energy {words}"],
            attribution=[
                {"part": "merge", "points": 1.24, "feature_error": 0.031},
                {"part": "vocabulary", "points": -0.2, "feature_error": 0.0},
            ] if is_full else None,
            provenance={"made by": "laco-export", "machine": "2 cores", "command": f"laco-engine report {words}"},
            max_new_tokens=64,
        )  # fmt: skip
        return {**report_document(findings), "page": {"picture_side": 384, "most_bytes": 20_000_000}}

    return make


@pytest.fixture
def render():
    def page_of(document, **charts):
        urls = {name: PIXEL for row in document["answers"] for name in row["pictures"]}
        return render_page(document, urls, PageCharts(**charts))

    return page_of


@pytest.mark.parametrize("is_full", [True, False])
def test_every_number_of_the_document_is_on_the_page_and_no_other(make_document, render, is_full):
    document = make_document(is_full)
    assert_page_says(render(document), document)


def test_columns_of_right_answers_are_there_where_any_is_known(make_document, render):
    headings = [">change, points</th>" in render(make_document(is_full)) for is_full in (True, False)]
    assert headings == [True, False]


def test_a_number_that_is_off_is_seen(make_document, render):
    """The witness: the check compares what is written, not only what stands beside it."""
    document = make_document()
    page = render(document)
    for wrong in (
        page.replace(">2.0 ms</data>", ">3.0 ms</data>"),
        page.replace('data-path="peaks.flops"', 'data-path="x"'),
    ):
        assert wrong != page
        with pytest.raises(AssertionError):
            assert_page_says(wrong, document)


def test_words_of_answers_stay_words(make_document, render):
    page = render(make_document())
    tags = PageNumbers(page).tags
    assert [tag for tag, _ in tags].count("script") == 1  # the page's own
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:") for tag, attributes in tags if tag == "img")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


class _Inline(HTMLParser):
    """The content of the page's style and script as a browser hashes it."""

    def __init__(self, page):
        super().__init__()
        self.content, self._tag = {"style": "", "script": ""}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._tag = tag if tag in self.content else self._tag

    def handle_endtag(self, tag):
        self._tag = None if tag == self._tag else self._tag

    def handle_data(self, data):
        if self._tag:
            self.content[self._tag] += data


def test_the_policy_allows_the_pages_own_style_and_script_and_no_other(make_document, render):
    page = render(make_document())
    policy = next(a["content"] for tag, a in PageNumbers(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    for tag, content in _Inline(page).content.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "img-src data:;" in policy and "unsafe" not in policy
    assert not [name for _, attributes in PageNumbers(page).tags for name in attributes if name == "style"]


def test_nothing_is_fetched_from_elsewhere(make_document, render):
    page = render(make_document(words="plain"))
    assert re.findall(r"https?://|//\w+\.|url\(|@import", page) == []
    links = [a for tag, a in PageNumbers(page).tags if tag in ("a", "link", "iframe", "object", "embed", "source")]
    assert all(attributes["href"].startswith("#") for attributes in links)
    anchors = {attributes.get("id") for _, attributes in PageNumbers(page).tags}
    assert {attributes["href"][1:] for attributes in links} <= anchors


def test_the_worst_picture_stands_first_and_knows_what_is_wrong(make_document, render):
    page = render(make_document(words="plain"))
    tags = PageNumbers(page).tags
    cards = [attributes for _, attributes in tags if attributes.get("class") == "card"]
    assert [card["data-name"] for card in cards] == ["0.png", "2.png", "3.png", "1.png"]
    asked = [attributes for _, attributes in tags if attributes.get("class") == "question"]
    assert [(q["data-wrong"], q["data-differs"], q["data-lost"]) for q in asked] == [
        ("1", "1", "1"),
        ("1", "1", "0"),
        ("0", "1", "0"),
        ("0", "0", "0"),
    ]


def test_a_planners_chart_is_a_picture(make_document, render):
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(3)</script></svg>'
    page = render(make_document(), pareto=svg)
    (url,) = [a["src"] for tag, a in PageNumbers(page).tags if a.get("class") == "chart"]
    assert base64.b64decode(url.removeprefix("data:image/svg+xml;base64,")).decode() == svg
    assert "alert(3)" not in page and "The choice" not in render(make_document())


def test_causes_of_drift_follow_each_other_down(make_document, render):
    page = render(make_document())
    bars = [
        (attributes["class"], float(attributes["x"]), float(attributes["width"]))
        for _, attributes in PageNumbers(page[page.index("What the drift came from") :]).tags
        if attributes.get("class") in ("error", "gain")
    ]
    assert [kind for kind, _, _ in bars] == ["error", "gain"]  # 1.24 points lost, then 0.2 won back
    assert bars[0][1:] == pytest.approx((0, 100))
    assert bars[1][1:] == pytest.approx((100 * 1.04 / 1.24, 100 * 0.2 / 1.24))


def test_the_same_document_gives_the_same_page(make_document, render):
    assert render(make_document()) == render(make_document())
