"""The document as a page: one HTML file that needs no network and lets nothing in or out.

Every number is drawn from the document by its path, which stands beside it (``data-path``): a reader's script, or a
test, finds each in the JSON. The content policy allows the page's own style and script by their hashes and pictures by
data URLs, so that an answer that holds markup stays text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING

from .number_words import SPELLINGS

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_TEMPLATE, _STYLE, _SCRIPT = "report.html", "report.css", "report.js"

_PARTS = ("preprocess_ms", "encode_ms", "prefill_ms")  # medians, whose sum need not be that of the first token


@dataclass(frozen=True)
class PageCharts:
    """Pictures that others drew, as SVG documents.

    Attributes:
        pareto: a planner's choice among depths and precisions; None where nobody planned.
    """

    pareto: str | None = None


def render_page(document: Mapping, picture_urls: Mapping[str, str], charts: PageCharts) -> str:
    """The page.

    Args:
        document: of :func:`~.document.report_document`, with ``page``.
        picture_urls: a picture's name → its data URL.

    Raises:
        ModuleNotFoundError: the package ``jinja2`` is not installed.
    """
    from markupsafe import Markup

    style, script = _own_file(_STYLE), _own_file(_SCRIPT)
    return _template().render(
        report=document,
        cards=_cards(document),
        urls=picture_urls,
        waterfall=_waterfall(document["attribution"] or ()),
        pareto_url=_svg_url(charts.pareto),
        style=Markup(style),
        script=Markup(script),
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        longest_parts=max(sum(bundle["times"][part] for part in _PARTS) for bundle in document["bundles"]),
        **{name: _spelled_from(document, spell) for name, spell in SPELLINGS.items()},
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_own_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _own_file(name: str) -> str:
    return (resources.files(__package__) / "template" / name).read_text(encoding="utf-8")


def _policy_hash(text: str) -> str:
    """A source expression of a content security policy for an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _svg_url(svg: str | None) -> str | None:
    """A chart as a picture: a script in it would not run."""
    return None if svg is None else f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def _spelled_from(document: Mapping, spell):
    """A function of the template: the number at a path of the document, spelled, with its value and its path beside."""
    from markupsafe import Markup

    def number(*path) -> Markup:
        keys = [key for part in path for key in (part if isinstance(part, list | tuple) else [part])]
        value: object = document
        for key in keys:
            value = value[key]
            if value is None:
                return Markup('<span class="none" title="not measured">–</span>')
        return Markup('<data value="{}" data-path="{}">{}</data>').format(
            repr(value), ".".join(map(str, keys)), spell(value)
        )

    return number


def _waterfall(parts: Sequence[Mapping]) -> list[dict]:
    """Bars that each begin where the one before ends, and the whole's at zero, in hundredths of the chart's width:
    ``left``, ``width``, and whether points are won back."""
    spans, end = [], 0.0
    for part in parts:
        start = 0.0 if part.get("is_total") else end
        end = start + part["points"]
        spans.append((start, end))
    ends = [0.0, *chain.from_iterable(spans)]
    least, reach = min(ends), (max(ends) - min(ends)) or 1.0
    return [
        {
            "left": 100 * (min(span) - least) / reach,
            "width": 100 * abs(span[1] - span[0]) / reach,
            "is_gain": span[1] < span[0],
        }
        for span in spans
    ]


def _cards(document: Mapping) -> list[dict]:
    """The questions by their pictures, in the document's order: each card with its questions' places there, and whether
    an answer to it is wrong, another than the reference's, or wrong where the reference's is right."""
    cards: dict[tuple, dict] = {}
    reference = next(place for place, bundle in enumerate(document["bundles"]) if bundle["is_reference"])
    for index, row in enumerate(document["answers"]):
        card = cards.setdefault(
            tuple(row["pictures"]), {"pictures": row["pictures"], "questions": [], "first": row["place"]}
        )
        card["first"] = min(card["first"], row["place"])
        wrong = any(answer["right"] is False for answer in row["answers"])
        card["questions"].append(
            {
                "index": index,
                "wrong": wrong,
                "differs": any(answer["same_text"] is False for answer in row["answers"]),
                "lost": wrong and row["answers"][reference]["right"] is True,
            }
        )
    return list(cards.values())
