"""The numbers of a report's page, read as a reader would: what is written, and what stands beside it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser

_SCALES = {
    "%": 0.01,
    "ms": 1,
    "×": 1,
    "bytes": 1,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "": 1,
}
_IN_BILLIONS = "peaks."


@dataclass
class PageNumber:
    """A ``<data>`` of the page: its path into the document, its exact value, and its words."""

    path: str
    value: str
    words: str = ""

    def words_say(self, number: float) -> bool:
        """Whether the words are this number, to the last digit that they write."""
        spelled, unit = re.fullmatch(r"([+\u2212-]?[\d.,]+(?:e[+-]\d+)?) ?(\D*)", self.words).groups()
        digits = spelled.replace(",", "").replace("\u2212", "-")
        scale = 1e9 if self.path.startswith(_IN_BILLIONS) else _SCALES[unit]
        mantissa, _, exponent = digits.partition("e")
        decimals = len(mantissa.partition(".")[2])
        last = 10.0 ** (int(exponent or 0) - decimals)
        return abs(float(digits) * scale - number) <= 0.5001 * last * scale


class PageNumbers(HTMLParser):
    """Collects them, and every tag with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.numbers: list[PageNumber] = []
        self.tags: list[tuple[str, dict]] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "data":
            self.numbers.append(PageNumber(dict(attributes)["data-path"], dict(attributes)["value"]))
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag != "data"

    def handle_data(self, text):
        if self._open:
            self.numbers[-1].words += text


def numbers_of(document: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON document with its path, ``bundles.0.right.share``."""
    if isinstance(document, bool) or document is None or isinstance(document, str):
        return
    if isinstance(document, (int, float)):
        yield path, document
        return
    inner = document.items() if isinstance(document, Mapping) else enumerate(document)
    for key, value in inner:
        yield from numbers_of(value, f"{path}.{key}" if path else str(key))


def assert_page_says(page: str, document: dict) -> None:
    """The page shows each number of the document, and none besides; each with its exact value and in right words."""
    shown = PageNumbers(page).numbers
    stated = dict(numbers_of(document))
    assert {number.path for number in shown} == set(stated)
    for number in shown:
        assert float(number.value) == stated[number.path], number
        assert number.words_say(stated[number.path]), number
