"""What a report does not say, in plain words: the first thing that whoever signs it should read."""

from __future__ import annotations

from collections.abc import Sequence

from ..asked_question import AskedQuestion
from .asking import AskedSubject
from .measuring import SubjectMeasures
from .scores import JudgedAnswer

_SHOWN = 3
_ONE_BY_ONE = (
    "Times in turn: the bundles were loaded and asked one after another, so that a machine that grew slower or faster "
    "meanwhile looks like a difference between them."
)
_ALWAYS = (
    "Answers in other words: an answer counts as right only where it is the known answer letter by letter, and as the "
    "same only where it is the reference's.",
    "Questions unlike these: the intervals say how far these shares may be off for questions of the same sort, drawn "
    "independently; where several questions are about one picture, they are wider.",
    "Sampled answers, conversations of several turns, videos and several requests at once: every answer here is greedy "
    "and to one question.",
    "What was trained on these pictures, and whether the known answers are right.",
)


def gaps_in_words(
    questions: Sequence[AskedQuestion],
    asked: Sequence[AskedSubject],
    judged: Sequence[Sequence[JudgedAnswer]],
    measures: Sequence[SubjectMeasures],
    *,
    machine: str,
    has_sensors: bool,
    is_in_turn: bool,
    is_attributed: bool,
) -> list[str]:
    """One sentence for each thing that was not measured."""
    return [
        *_truths(questions),
        *_refused(questions, asked, judged),
        *_measures(asked, measures),
        *([] if has_sensors else ["Energy: this machine shows no power sensor (INA3221 or INA238)."]),
        *([] if is_attributed else ["What part of the export an answer changed by: nothing was switched back alone."]),
        *([] if is_in_turn else [_ONE_BY_ONE]),
        f"Any other machine: times, memory and floors are of {machine}.",
        *_ALWAYS,
    ]


def _truths(questions: Sequence[AskedQuestion]) -> list[str]:
    unknown = sum(question.truth is None for question in questions)
    if not unknown:
        return []
    if unknown == len(questions):
        return ["Whether any answer is right: the questions come without known answers."]
    return [f"Whether the answers to {unknown} of the {len(questions)} questions are right: nobody said."]


def _refused(questions, asked: Sequence[AskedSubject], judged: Sequence[Sequence[JudgedAnswer]]) -> list[str]:
    sentences = []
    for subject, answers in zip(asked, judged, strict=True):
        refused = [(question.id, answer.refused) for question, answer in zip(questions, answers) if answer.refused]
        if refused:
            examples = "; ".join(f"{name}: {reason}" for name, reason in refused[:_SHOWN])
            more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
            sentences.append(
                f"{len(refused)} questions that {subject.subject.name} could not be asked: {examples}{more}."
            )
    return sentences


def _measures(asked: Sequence[AskedSubject], measures: Sequence[SubjectMeasures]) -> list[str]:
    """What is missing of each subject's figures, said once where it is missing of several."""
    missing: dict[str, list[str]] = {}
    for subject, measured in zip(asked, measures, strict=True):
        for reason in measured.missing:
            missing.setdefault(reason, []).append(subject.subject.name)
        for reason in subject.passed_over:
            missing.setdefault(f"a runtime that was passed over: {reason}", []).append(subject.subject.name)
    return [_sentence(reason, names if len(names) < len(asked) else []) for reason, names in missing.items()]


def _sentence(reason: str, names: Sequence[str]) -> str:
    """The reason with a capital and a full stop, and the subjects that it is of where it is not of all."""
    whose = f" ({', '.join(names)})" if names else ""
    return f"{reason[0].upper()}{reason[1:].rstrip('.')}{whose}."
