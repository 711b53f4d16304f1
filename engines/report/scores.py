"""What the answers are worth: against the truth where it is known, against the reference everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..answer_likeness import AnswerLikeness, answer_likeness
from ..asked_question import AskedQuestion
from ..score_intervals import ScoreInterval, paired_interval, share_interval
from .asking import AskedSubject, GivenAnswer


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer of one subject.

    Attributes:
        text: None where the question could not be asked, with the reason in ``refused``.
        right: None where the truth is not known.
        likeness: to the reference's answer; None where either was not given. Of the reference: of its second answer to
            its first.
    """

    text: str | None
    refused: str | None
    right: bool | None
    likeness: AnswerLikeness | None

    @property
    def differs(self) -> bool:
        return self.likeness is not None and not self.likeness.same_text


def judge_answers(
    asked: Sequence[AskedSubject], reference: int, questions: Sequence[AskedQuestion]
) -> list[list[JudgedAnswer]]:
    """Every answer judged: by subject, by question."""
    return [
        [
            _judge(question, record, *_pair(asked, reference, place, index))
            for index, (question, record) in enumerate(zip(questions, subject.answers, strict=True))
        ]
        for place, subject in enumerate(asked)
    ]


def _pair(asked: Sequence[AskedSubject], reference: int, place: int, index: int):
    """What is compared: the reference's answer, and the subject's; of the reference its second."""
    first = asked[reference].answers[index]
    return first, asked[reference].repeated[index] if place == reference else asked[place].answers[index]


def _judge(question: AskedQuestion, record, reference, compared) -> JudgedAnswer:
    likeness = None
    if isinstance(reference, GivenAnswer) and isinstance(compared, GivenAnswer):
        pair = (reference.answer, compared.answer)
        likeness = answer_likeness(*(part for answer in pair for part in (answer.token_ids, answer.text)))
    if not isinstance(record, GivenAnswer):
        return JudgedAnswer(None, record.failed, None, likeness)
    text = record.answer.text.strip()
    return JudgedAnswer(text, None, question.is_right(text), likeness)


@dataclass(frozen=True)
class CountedShare:
    """So many of so many, with Wilson's 95 % interval of the share."""

    count: int
    of: int
    interval: ScoreInterval


@dataclass(frozen=True)
class RightChange:
    """Right answers beside the reference's on the same questions.

    Attributes:
        gained, lost: questions that the subject, or the reference, alone has right.
        interval: of the change of the share, paired.
    """

    gained: int
    lost: int
    interval: ScoreInterval


@dataclass(frozen=True)
class AnswerScores:
    """Of one subject.

    Attributes:
        right: of the questions with a known answer; None where there are none.
        change: against the reference; None of the reference, and where no truth is known.
        same_text, same_first_token: against the reference; of the reference: what it repeats.
        prefix_share: mean share of the reference's answer before the first other token.
    """

    right: CountedShare | None
    change: RightChange | None
    same_text: CountedShare | None
    same_first_token: CountedShare | None
    prefix_share: float | None


def score_answers(judged: Sequence[JudgedAnswer], reference: Sequence[JudgedAnswer] | None) -> AnswerScores:
    """The scores of one subject; ``reference`` is the reference's answers, None where the subject is it."""
    alike = [answer.likeness for answer in judged if answer.likeness is not None]
    return AnswerScores(
        right=_share([answer.right for answer in judged if answer.right is not None]),
        change=None if reference is None else _change(judged, reference),
        same_text=_share([likeness.same_text for likeness in alike]),
        same_first_token=_share([likeness.same_first_token for likeness in alike]),
        prefix_share=sum(likeness.prefix_share for likeness in alike) / len(alike) if alike else None,
    )


def _share(outcomes: Sequence[bool]) -> CountedShare | None:
    if not outcomes:
        return None
    return CountedShare(sum(outcomes), len(outcomes), share_interval(sum(outcomes), len(outcomes)))


def _change(judged: Sequence[JudgedAnswer], reference: Sequence[JudgedAnswer]) -> RightChange | None:
    pairs = [(ours.right, theirs.right) for ours, theirs in zip(judged, reference, strict=True)]
    pairs = [pair for pair in pairs if None not in pair]
    if not pairs:
        return None
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    return RightChange(gained, lost, paired_interval(gained=gained, lost=lost, of=len(pairs)))


def worst_first(judged: Sequence[Sequence[JudgedAnswer]], reference: int) -> list[int]:
    """The questions' places, those first by which somebody chooses: where most subjects lose what the reference has
    right, then where most are wrong, then where most differ from the reference and earliest; else as they were asked.
    """

    def badness(index: int) -> tuple:
        answers = [answers[index] for answers in judged]
        others = [answer for place, answer in enumerate(answers) if place != reference]
        lost = sum(answer.right is False for answer in others) if answers[reference].right else 0
        agreed = sum(answer.likeness.prefix_share for answer in others if answer.likeness)
        wrong = sum(answer.right is False for answer in answers)
        refused = sum(answer.text is None for answer in answers)
        return -lost, -wrong, -refused, -sum(answer.differs for answer in others), agreed, index

    return sorted(range(len(judged[0])), key=badness)
