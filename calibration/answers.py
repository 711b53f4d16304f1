"""What a bundle answers, for judging an INT8 tower by what it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.bundle import open_bundle
from laco_export.errors import ImageError

from .pictures import Question

MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class AnswerScore:
    """Answers of two bundles to the same questions.

    Attributes:
        same: questions with the same answer.
        right_base, right: questions answered as the data has it, by the FP32 bundle and by the other; None where the
            data has no answers.
    """

    questions: int
    same: int
    right_base: int | None
    right: int | None

    @property
    def points(self) -> float:
        """Right answers lost, in points (a gain counts as none); 0 where the data has no answers."""
        if self.right is None:
            return 0.0
        return max(0.0, 100 * (self.right_base - self.right) / self.questions)


def ask(folder: Path, questions: Sequence[Question], advance: Callable[[], None] = lambda: None) -> list[str]:
    """Greedy answers of the bundle in ``folder``; a question whose picture cannot be read gets an empty one."""
    from laco_engines.answering import Answerer

    answerer = Answerer(open_bundle(folder), runtime="onnxruntime")
    answers = []
    for question in questions:
        try:
            answer = answerer.answer(list(question.images), question.text, max_new_tokens=MAX_NEW_TOKENS)
            answers.append(answer.text.strip())
        except ImageError:
            answers.append("")
        advance()
    return answers


def score(questions: Sequence[Question], base: Sequence[str], given: Sequence[str]) -> AnswerScore:
    """Compare the answers of two bundles."""
    truths = [question.truth for question in questions]
    known = all(truths)
    right = lambda answers: sum(answer == truth for answer, truth in zip(answers, truths)) if known else None
    return AnswerScore(len(questions), sum(a == b for a, b in zip(base, given)), right(base), right(given))
