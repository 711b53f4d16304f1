"""Points of answers lost beside a reference, by asking, or from the one source that the user names.

Nothing is assumed of what was not asked: a deeper merge or a wider number is not taken for a better one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

from ..answer_likeness import answer_likeness
from ..asked_question import AskedQuestion
from ..score_intervals import share_interval
from .figures import MEASURED, RECORDED, Figure
from .space import Model

MAX_NEW_TOKENS = 32
"""Of an answer that is compared: what a calibration asks for too."""


class QualitySource(Protocol):
    """Where points come from.

    Attributes:
        reference: the model that the others are held to.
        title: what was compared, for people.
        asked: questions times models that were asked.
    """

    reference: Model
    title: str
    asked: int

    def check(self) -> None:
        """Refuse what cannot be asked, before anything is measured."""
        ...

    def can_tell(self, model: Model) -> bool:
        """Whether it can say anything of a model."""
        ...

    def recorded(self, model: Model) -> Figure | None:
        """Points lost as far as they are known without asking."""
        ...

    def drop(self, model: Model) -> Figure:
        """Points lost, asked for where they are not known. The reference loses none."""
        ...


class AskedAnswers:
    """Answers that are no longer the reference's, in per cent of the questions; greedy, on this machine.

    Args:
        reference: its answers are the right ones here.
        advance: told what is asked, and after each question.
    """

    def __init__(
        self,
        reference: Model,
        questions: Sequence[AskedQuestion],
        *,
        runtime: str | None = None,
        text_runtime: str | None = None,
        threads: int | None = None,
        advance: Callable[[str], None] = lambda what: None,
    ):
        self.reference, self.questions, self.asked = reference, questions, 0
        self.title = f"answers that are {reference.name}'s, of {len(questions)} questions asked on this machine"
        self._options = {"runtime": runtime, "text_runtime": text_runtime, "threads": threads}
        self._advance = advance
        self._answers: dict[str, list[tuple[list[int], str]]] = {}
        self._rights: dict[str, int] = {}

    def check(self) -> None:
        from ..prompts.prompter import Prompter

        prompter = Prompter(self.reference.bundle)
        for question in self.questions:
            prompter.prepare(list(question.pictures), question.text)

    def can_tell(self, model: Model) -> bool:
        return model.language_model is not None

    def recorded(self, model: Model) -> Figure | None:
        if model.answers_sha256 == self.reference.answers_sha256:
            return Figure.exact(0.0, MEASURED)
        return self.drop(model) if model.answers_sha256 in self._answers else None

    def drop(self, model: Model) -> Figure:
        if model.answers_sha256 == self.reference.answers_sha256:
            return Figure.exact(0.0, MEASURED)
        pairs = zip(self.answers(self.reference), self.answers(model), strict=True)
        same = sum(answer_likeness(*reference, *other).same_text for reference, other in pairs)
        return _points_lost(same, len(self.questions), MEASURED)

    def answers(self, model: Model) -> list[tuple[list[int], str]]:
        """Token ids and text of each answer; each model is asked once."""
        if model.answers_sha256 not in self._answers:
            self._answers[model.answers_sha256] = self._ask(model)
        return self._answers[model.answers_sha256]

    def right(self, model: Model) -> int | None:
        """Answers that are the truth, of the questions that have one; None where the model was not asked."""
        answers = self._answers.get(model.answers_sha256)
        if answers is None:
            return None
        return sum(question.is_right(text) is True for question, (_, text) in zip(self.questions, answers))

    def _ask(self, model: Model) -> list[tuple[list[int], str]]:
        from ..answering import Answerer

        answerer = Answerer(model.bundle, **self._options)
        answers = []
        for number, question in enumerate(self.questions, 1):
            self._advance(f"asking {model.name}: {number} of {len(self.questions)}")
            answer = answerer.answer(list(question.pictures), question.text, max_new_tokens=MAX_NEW_TOKENS)
            answers.append((answer.token_ids, answer.text))
        self.asked += len(self.questions)
        return answers


class BenchmarkScores:
    """A benchmark's result for each model, higher being better; points lost are the difference to the reference's.

    Args:
        path: JSON of a name (``bundle`` or ``bundle@depth``) for each model and its result in points.

    Raises:
        UsageError: it cannot be read, or lacks a model.
    """

    asked = 0

    def __init__(self, path: Path, reference: Model, models: Sequence[Model]):
        self.reference, self.title = reference, f"{path.name}, beside {reference.name}'s result"
        self._scores = _read_scores(path)
        if missing := [model.name for model in models if self._score(model) is None]:
            raise UsageError(
                f"--benchmark '{path}' lacks a result",
                given=f"nothing for {', '.join(missing)}",
                allowed='{"bundle": 71.3, "other@1/2": 70.9}: names as given on the command line, or the folders\'',
            )

    def check(self) -> None:
        pass

    def can_tell(self, model: Model) -> bool:
        return True

    def recorded(self, model: Model) -> Figure:
        return Figure.exact(self._score(self.reference) - self._score(model), RECORDED)

    def drop(self, model: Model) -> Figure:
        return self.recorded(model)

    def _score(self, model: Model) -> float | None:
        folder = model.bundle.path.resolve().name
        names = (model.name, f"{folder}@{model.depth}", folder)
        return next((self._scores[name] for name in names if name in self._scores), None)


class CalibrationRecords:
    """Answers that a calibration found changed, in per cent, of an eight-bit bundle beside the one that it was made of.

    It says nothing of bundles of another depth, or of another language model: those have no points.
    """

    asked = 0

    def __init__(self, reference: Model):
        self.reference = reference
        self.title = f"each calibration's own questions, beside {reference.name}"
        self._graph = reference.bundle.graph_sha256(reference.bundle.manifest.vision.graphs[0])

    def check(self) -> None:
        pass

    def can_tell(self, model: Model) -> bool:
        return self.recorded(model) is not None

    def recorded(self, model: Model) -> Figure | None:
        if model.answers_sha256 == self.reference.answers_sha256:
            return Figure.exact(0.0, RECORDED)
        record = calibrated_answers(model.bundle)
        own = record is not None and record["source_graph_sha256"] == self._graph
        if not own or model.decoder_sha256 != self.reference.decoder_sha256:
            return None
        interval = share_interval(record["same"], record["questions"])
        return Figure(
            *(100 * (1 - share) for share in (interval.value, interval.high, interval.low)), frozenset({RECORDED})
        )

    def drop(self, model: Model) -> Figure:
        return self.recorded(model)


def calibrated_answers(bundle: Bundle) -> dict | None:
    """``{"questions", "same", "source_graph_sha256"}`` of a bundle whose calibration asked questions; else None."""
    record = bundle.manifest.vision.calibration or {}
    answers = record.get("answers") or {}
    if not answers.get("questions") or "same" not in answers or "source_graph_sha256" not in record:
        return None
    return {**answers, "source_graph_sha256": record["source_graph_sha256"]}


def choose_reference(models: Sequence[Model], name: str | None) -> Model:
    """The model that the others are held to: the one named, else the first.

    Raises:
        UsageError: none is named so.
    """
    if name is None:
        return models[0]
    for model in models:
        if name in (model.name, str(model.bundle.path), f"{model.bundle.path}@{model.depth}"):
            return model
    raise UsageError(
        "--reference names none of the bundles", given=name, allowed=", ".join(model.name for model in models)
    )


def _points_lost(same: int, of: int, source: str) -> Figure:
    """Answers that are not the same, in per cent, with Wilson's interval."""
    interval = share_interval(same, of)
    return Figure(*(100 * (1 - share) for share in (interval.value, interval.high, interval.low)), frozenset({source}))


def _read_scores(path: Path) -> dict[str, float]:
    shape = "a JSON object of a name and a number for each bundle"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--benchmark '{path}' cannot be read: {error.strerror}", allowed=shape) from None
    except (ValueError, RecursionError):
        raise UsageError(f"--benchmark '{path}' is not JSON", allowed=shape) from None
    is_number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(document, dict) or not document or not all(map(is_number, document.values())):
        raise UsageError(f"--benchmark '{path}' is not of the form that is read", allowed=shape)
    return document
