"""From bundles, pictures and questions to a page: nothing is written before all of it is known.

::

    report = make_report([open_bundle(a), open_bundle(b)], questions, ReportOptions(), source)
    write_page(Path("report.html"), report)      # and print_json(report.document) says the same numbers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from laco_export.atomic import refuse_existing, write_text
from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.machine import default_threads
from laco_export.quiet import quiet_libraries

from ..asked_question import AskedQuestion
from ..devices.power import find_rails
from .asking import AskingOptions, ask_subjects, count_asks
from .document import ReportFindings, report_document
from .gaps import gaps_in_words
from .measuring import measure_subjects
from .page import PageCharts, render_page
from .provenance import run_provenance
from .scores import judge_answers, score_answers
from .subjects import place_of_reference, subjects_of
from .thumbnails import SIDES, PagePictures

MOST_BYTES = 20_000_000
"""Of a page: what goes through mail, whose servers take 25 MB with the attachment a third larger, is smaller still; a
page of a thousand pictures at full size has this."""

StepContext = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""``steps.step(name, total)`` of :class:`laco_export.console.Steps`."""


@dataclass(frozen=True)
class ReportSource:
    """Where things come from, for the provenance: the questions, the pictures' folder, the command as typed, and the
    file of a planner's chart where there is one."""

    questions: Path
    images: Path
    command: str
    chart: Path | None = None


@dataclass(frozen=True)
class ReportOptions:
    """What a report holds.

    Attributes:
        title: above the page.
        depths: of bundles that carry several these only; empty takes all.
        reference: a bundle's name or path; None takes the first.
        asking: how the bundles are asked.
        memory: measure each bundle's peak memory, in a process of its own.
        most_bytes: of the page; pictures are scaled until it is no larger.
        attribution: what drift came from: ``[{"part", "points", "feature_error"}]``; the bar of one with ``"is_total"``
            begins at zero.
        attributed: whose drift that is, in words.
        charts: pictures that others drew.
    """

    title: str = "What these bundles answer"
    depths: Sequence[str] = ()
    reference: str | None = None
    asking: AskingOptions = field(default_factory=AskingOptions)
    memory: bool = True
    most_bytes: int = MOST_BYTES
    attribution: Sequence[dict] | None = None
    attributed: str | None = None
    charts: PageCharts = field(default_factory=PageCharts)


@dataclass(frozen=True)
class Report:
    """A finished report: the numbers, and the page that shows them."""

    document: dict
    page: str


def make_report(
    bundles: Sequence[Bundle],
    questions: Sequence[AskedQuestion],
    options: ReportOptions,
    source: ReportSource,
    step: StepContext,
) -> Report:
    """Ask, measure, and draw the page.

    Args:
        step: shows each part of the work.

    Raises:
        BundleError, UsageError: bundles have no language model, are of different models, or are not the reference; no
            question can be asked; the page cannot be as small as it should.
        ImageError: pictures cannot be read; all of them are named.
    """
    subjects = subjects_of(bundles, options.depths)
    reference = place_of_reference(subjects, options.reference)
    pictures = list(dict.fromkeys(picture for question in questions for picture in question.pictures))
    threads = options.asking.threads or default_threads()
    with step("read the pictures", len(pictures)) as advance:
        thumbnails = PagePictures(pictures, advance)
    rails = find_rails()
    with step("ask", count_asks(subjects, questions)) as advance, quiet_libraries():
        asked = ask_subjects(subjects, reference, questions, options.asking, rails, advance)
    judged = judge_answers(asked, reference, questions)
    scores = [
        score_answers(answers, None if place == reference else judged[reference])
        for place, answers in enumerate(judged)
    ]
    with step("measure", len(subjects)) as advance:
        measures, meter = measure_subjects(asked, options.asking, threads, memory=options.memory, advance=advance)
    provenance = run_provenance(source.command, source.questions, pictures, source.images, threads, chart=source.chart)
    findings = ReportFindings(
        title=options.title,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        questions=questions,
        asked=asked,
        reference=reference,
        judged=judged,
        scores=scores,
        measures=measures,
        peaks=meter.peaks,
        gaps=gaps_in_words(
            questions,
            asked,
            judged,
            measures,
            machine=provenance["machine"],
            has_sensors=bool(rails),
            is_in_turn=not options.asking.one_by_one,
            is_attributed=bool(options.attribution),
        ),
        attribution=options.attribution,
        attributed=options.attributed,
        provenance=provenance,
        max_new_tokens=options.asking.max_new_tokens,
        is_in_turn=not options.asking.one_by_one,
    )
    document = report_document(findings)
    names = {name: picture for question in questions for name, picture in zip(question.names, question.pictures)}
    return _fitted(document, names, thumbnails, options)


def _fitted(document: dict, names: dict[str, Path], thumbnails: PagePictures, options: ReportOptions) -> Report:
    """The page with its pictures as large as its size allows."""
    document["page"] = {"picture_side": SIDES[0], "most_bytes": options.most_bytes}
    without_pictures = len(render_page(document, dict.fromkeys(names, ""), options.charts).encode())
    fitting = thumbnails.within(options.most_bytes - without_pictures)
    if fitting is None:
        raise UsageError(
            f"the page does not fit {options.most_bytes:,} bytes with {len(thumbnails):,} pictures of "
            f"{SIDES[-1]} pixels a side",
            given=f"{without_pictures:,} bytes without its pictures",
            todo="ask fewer questions, or allow more with --max-bytes",
        )
    side, urls = fitting
    document["page"]["picture_side"] = side
    return Report(document, render_page(document, {name: urls[path] for name, path in names.items()}, options.charts))


def write_page(path: Path, report: Report, *, force: bool = False) -> None:
    """Write the page in one step.

    Raises:
        OutputExistsError: something came to stand there while the report was made, and may not be replaced.
    """
    refuse_existing(path, force=force)
    write_text(path, report.page)
