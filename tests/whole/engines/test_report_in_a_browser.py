"""The report's page in a real browser, opened from its file: on a desk, on a phone, in the dark, on paper."""

import json
from contextlib import contextmanager

import pytest
from chromium import started_chromium

from laco_engines.cli import main

from .conftest import HELD_OUT

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
QUESTIONS = 8

CONTRASTS = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => {
        const [r, g, b] = rgb.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const low = [];
    for (const element of document.body.querySelectorAll('*')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || element.matches('script, style') || !element.getClientRects().length) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push([element.className || element.tagName, ratio.toFixed(2)]);
    }
    return low;
}"""
"""Texts whose contrast is below WCAG's 4.5 to 1."""

WIDER = """() => [...document.body.querySelectorAll('*')]
    .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest('.wide'))
    .map((e) => e.className || e.tagName)"""


@pytest.fixture(scope="module")
def browser():
    with started_chromium() as started:
        yield started


@pytest.fixture(scope="module")
def report(trained_bundle, tmp_path_factory):
    """The page's file of one bundle given twice, over held-out questions of which two have a wrong known answer."""
    folder = tmp_path_factory.mktemp("report")
    entries = json.loads((HELD_OUT / "heldout.json").read_text())[:: 300 // QUESTIONS][:QUESTIONS]
    for entry in entries[2], entries[5]:
        entry["conversations"][1]["value"] = (
            "a very long answer that nobody gives, with-a-word-that-cannot-be-broken" * 3
        )
    (folder / "asked.json").write_text(json.dumps(entries))
    options = ("--threads", "1", "--text-runtime", "lean", "--no-memory", "--max-new-tokens", "8")
    arguments = ("--images", HELD_OUT, "--questions", folder / "asked.json", "--output", folder / "report.html")
    assert main([str(word) for word in ("report", trained_bundle, trained_bundle, *arguments, *options)]) == 0
    return folder / "report.html"


@pytest.fixture
def opened(browser, report):
    """``with opened(**context) as page``: a test fails where the page's policy refused something, its script failed, or
    anything was asked of the network."""

    @contextmanager
    def open_page(**options):
        with browser.new_context(**{"viewport": DESK, **options}) as context:
            page, wrong = context.new_page(), []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url))
            page.goto(report.as_uri())
            yield page
            assert wrong == []

    return open_page


def names(page) -> list[str]:
    return page.locator(".card:visible").evaluate_all("cards => cards.map((card) => card.dataset.name)")


def test_the_worst_pictures_come_first_and_all_are_drawn(opened):
    with opened() as page:
        playwright.expect(page.locator("#shown")).to_have_text(f"{QUESTIONS} of {QUESTIONS} questions shown")
        wrong = page.locator(".card:visible .mark.wrong")
        assert page.locator(".card").nth(0).locator(".mark.wrong").count() == 2
        assert wrong.count() == 4 and page.locator(".card").nth(2).locator(".mark.wrong").count() == 0
        drawn = page.locator(".card img").evaluate_all("all => all.map((i) => i.complete && i.naturalWidth > 0)")
        assert drawn == [True] * QUESTIONS


def test_the_keyboard_orders_filters_and_finds(opened):
    with opened() as page:
        worst = names(page)
        page.get_by_label("Order").focus()
        page.keyboard.press("ArrowDown")
        asked = names(page)
        assert sorted(asked) == sorted(worst) and asked != worst
        page.keyboard.press("ArrowDown")
        assert names(page) == sorted(worst)
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        playwright.expect(page.locator("#shown")).to_have_text(f"2 of {QUESTIONS} questions shown")
        page.keyboard.press("ArrowDown")
        playwright.expect(page.locator("#shown")).to_have_text(f"0 of {QUESTIONS} questions shown")
        page.keyboard.press("Home")
        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press("/")
        playwright.expect(page.get_by_label("Find")).to_be_focused()
        page.keyboard.type("NOBODY GIVES")
        playwright.expect(page.locator("#shown")).to_have_text(f"2 of {QUESTIONS} questions shown")
        page.keyboard.press("Escape")
        playwright.expect(page.locator("#shown")).to_have_text(f"{QUESTIONS} of {QUESTIONS} questions shown")
        page.keyboard.press("j")
        page.keyboard.press("j")
        focused = page.evaluate("document.activeElement.dataset.name")
        assert focused == names(page)[1]
        page.keyboard.press("k")
        assert page.evaluate("document.activeElement.dataset.name") == names(page)[0]


def test_a_heading_sorts_its_table_by_exact_values(opened):
    with opened() as page:
        table = page.locator("#first-token table")
        values = lambda: [
            float(v) for v in table.locator("tbody td:nth-child(2) data").evaluate_all("a => a.map((d) => d.value)")
        ]
        heading = table.get_by_role("button", name="first token")
        heading.focus()
        page.keyboard.press("Enter")
        assert values() == sorted(values())
        playwright.expect(table.locator("th[aria-sort=ascending]")).to_have_count(1)
        page.keyboard.press("Enter")
        assert values() == sorted(values(), reverse=True)


def test_without_its_script_everything_is_there(opened):
    with opened(java_script_enabled=False) as page:
        assert page.locator(".card:visible").count() == QUESTIONS
        assert not page.locator(".controls").is_visible()
        assert page.get_by_text("What was not measured").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_either_scheme(opened, scheme):
    with opened(color_scheme=scheme) as page:
        brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
        assert (brightness < 60) == (scheme == "dark")
        assert page.evaluate(CONTRASTS) == []


@pytest.mark.parametrize("viewport", [DESK, PHONE, {"width": 768, "height": 1024}])
def test_nothing_stands_out_of_the_screen(opened, viewport):
    with opened(viewport=viewport) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.evaluate(WIDER) == []


def test_on_a_phone_each_cell_says_what_it_is(opened):
    with opened(viewport=PHONE) as page:
        cells = page.locator(".wide tbody td")
        labels = cells.evaluate_all("all => all.map((cell) => getComputedStyle(cell, '::before').content)")
        assert len(labels) > 30 and all(len(label) > 2 for label in labels)


def test_on_paper_there_is_no_night_and_nothing_to_press(opened):
    with opened(color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator(".controls").is_visible() and not page.locator("nav").is_visible()
        assert page.get_by_text("Read and accepted").is_visible()
        assert page.evaluate(CONTRASTS) == []
        assert len(page.pdf(format="A4")) > 20_000
        assert page.locator("details:not([open])").count() == 0
