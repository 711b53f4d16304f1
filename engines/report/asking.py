"""Every subject is asked every question, in turn, so that a drift of the machine meets all of them alike.

Nothing of an earlier answer is used again: KV caches and pictures' embeddings are forgotten before each question, so
that its times are those of a first question about a picture. The reference is asked each question once more, for what
it itself repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laco_export.errors import ImageError, LacoError, UsageError
from laco_export.timing import Series, time_run

from ..asked_question import AskedQuestion
from ..devices.power import Energy, Rail, measure_energy
from .subjects import ReportSubject

if TYPE_CHECKING:
    from ..answering import Answer, Answerer


@dataclass(frozen=True)
class AskingOptions:
    """How bundles are asked; answers are greedy.

    Attributes:
        max_new_tokens: of an answer.
        runtime, text_runtime, threads: as of :class:`~laco_engines.answering.Answerer`.
        one_by_one: one bundle is loaded at a time; else all are, and are asked in turn.
    """

    max_new_tokens: int = 64
    runtime: str | None = None
    text_runtime: str | None = None
    threads: int | None = None
    one_by_one: bool = False


@dataclass(frozen=True)
class GivenAnswer:
    """An answer, and how many tiles of its question's pictures the tower encoded."""

    answer: Answer
    tiles: int


@dataclass
class AskedSubject:
    """What came of asking one subject.

    Attributes:
        runtime, text_runtime: the names of what ran it; passed_over: why each better one was not taken.
        tower_on_cpu, decoder_on_cpu: where each computes.
        answers: by question; the error of one that could not be asked.
        repeated: of the reference, its second answers; else empty.
        series: a sample for each answer, in order; those of questions that could not be asked are left out.
        energy: of one answer to one question, where the machine has sensors.
    """

    subject: ReportSubject
    runtime: str
    text_runtime: str
    passed_over: list[str]
    tower_on_cpu: bool
    decoder_on_cpu: bool
    answers: list[GivenAnswer | LacoError] = field(default_factory=list)
    repeated: list[GivenAnswer | LacoError] = field(default_factory=list)
    series: Series = field(init=False)
    energy: Energy | None = None

    def __post_init__(self) -> None:
        self.series = Series(on_cpu=self.tower_on_cpu and self.decoder_on_cpu)

    @property
    def answered(self) -> list[GivenAnswer]:
        """Without the questions that could not be asked."""
        return [record for record in self.answers if isinstance(record, GivenAnswer)]

    @property
    def timed(self) -> list[GivenAnswer]:
        """The answers whose times count: given, and not while the machine was stalled."""
        return [record for record, accepted in zip(self.answered, self.series.is_accepted, strict=True) if accepted]


def ask_subjects(
    subjects: Sequence[ReportSubject],
    reference: int,
    questions: Sequence[AskedQuestion],
    options: AskingOptions,
    rails: Sequence[Rail] = (),
    advance: Callable[..., None] = lambda *words, **more: None,
) -> list[AskedSubject]:
    """Ask them all; ``advance`` is called once for each of :func:`count_asks`.

    Raises:
        LacoError: a bundle cannot be loaded, or none of the questions can be asked.
    """
    order = range(len(subjects))
    groups = [[place] for place in order] if options.one_by_one else [list(order)]
    asked: dict[int, AskedSubject] = {}
    for group in groups:
        loaded = _load({place: subjects[place] for place in group}, options, advance)
        asked |= _ask_in_turn({place: (subjects[place], loaded[place]) for place in group}, questions, options, advance)
        if reference in group:
            asked[reference].repeated = _repeat(loaded[reference], questions, options, advance)
        for place in group if rails else ():
            asked[place].energy = _energy(loaded[place], asked[place], questions, options, list(rails))
    return [asked[place] for place in order]


def count_asks(subjects: Sequence[ReportSubject], questions: Sequence[AskedQuestion]) -> int:
    """How many answers :func:`ask_subjects` asks for, the warm-up and the reference's repetition included."""
    return len(subjects) * (1 + len(questions)) + len(questions)


def _load(
    subjects: dict[int, ReportSubject], options: AskingOptions, advance: Callable[..., None]
) -> dict[int, Answerer]:
    """Their answerers; the depths of one bundle share its language model."""
    from ..answering import Answerer

    opened: dict[int, Answerer] = {}
    for subject in subjects.values():
        advance(0, description=f"loading {subject.name}")
        if id(subject.whole) not in opened:
            opened[id(subject.whole)] = Answerer(
                subject.whole,
                at=subject.depth,
                runtime=options.runtime,
                text_runtime=options.text_runtime,
                threads=options.threads,
            )
    return {place: opened[id(subject.whole)].at(subject.depth) for place, subject in subjects.items()}


def _ask_in_turn(
    loaded: dict[int, tuple[ReportSubject, Answerer]],
    questions: Sequence[AskedQuestion],
    options: AskingOptions,
    advance: Callable[..., None],
) -> dict[int, AskedSubject]:
    asked = {place: _new(subject, answerer) for place, (subject, answerer) in loaded.items()}
    for _, answerer in loaded.values():
        _warm_up(answerer, questions, options)
        advance(1, description="asking")
    for question in questions:
        for place, (_, answerer) in loaded.items():
            records = asked[place].answers
            sample = time_run(lambda: records.append(_ask(answerer, question, options)))  # noqa: B023 - run at once
            if isinstance(records[-1], GivenAnswer):
                asked[place].series.samples.append(sample)
            advance()
    return asked


def _new(subject: ReportSubject, answerer: Answerer) -> AskedSubject:
    return AskedSubject(
        subject,
        runtime=answerer.vision.name,
        text_runtime=answerer.text.name,
        passed_over=[*answerer.vision.passed_over, *answerer.text.passed_over],
        tower_on_cpu=answerer.vision.on_cpu,
        decoder_on_cpu=answerer.text.session.get_providers()[0] == "CPUExecutionProvider",
    )


def _warm_up(answerer: Answerer, questions: Sequence[AskedQuestion], options: AskingOptions) -> None:
    """One answer that does not count: its times are those of a first call."""
    for question in questions:
        record = _ask(answerer, question, options)
        if isinstance(record, GivenAnswer):
            return
    raise UsageError(
        f"none of the {len(questions)} questions can be asked of '{answerer.bundle.path}': {record.failed}",
        given=record.given,
        allowed=record.allowed,
        todo=record.todo,
    )


def _ask(answerer: Answerer, question: AskedQuestion, options: AskingOptions) -> GivenAnswer | LacoError:
    """The answer, or why the question cannot be asked: its text is too long or holds a special token, or a picture of
    it cannot be read."""
    answerer.forget(pictures=True)
    try:
        prompt = answerer.prompter.prepare(list(question.pictures), question.text)
        answer = answerer.generate(prompt, max_new_tokens=options.max_new_tokens)
    except (ImageError, UsageError) as error:
        return error
    return GivenAnswer(answer, sum(visual.layout.tiles for visual in prompt.visuals))


def _repeat(answerer: Answerer, questions, options: AskingOptions, advance) -> list[GivenAnswer | LacoError]:
    repeated = []
    for question in questions:
        repeated.append(_ask(answerer, question, options))
        advance(1, description="asking the reference again")
    return repeated


def _energy(answerer: Answerer, asked: AskedSubject, questions, options, rails: list[Rail]) -> Energy | None:
    question = next(q for q, record in zip(questions, asked.answers) if isinstance(record, GivenAnswer))
    return measure_energy(lambda: _ask(answerer, question, options), 1, rails)
