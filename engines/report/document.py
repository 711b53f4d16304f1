"""Everything that a report says, as one JSON document: the page is drawn from it and from nothing else.

Shares are parts of 1, times milliseconds, sizes bytes; a field is None where nothing was measured, and the reason is in
``not_measured``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from laco_export.bundle import Manifest

from ..asked_question import AskedQuestion
from ..devices.host_peaks import HostPeaks
from .asking import AskedSubject
from .measuring import SubjectMeasures
from .provenance import bundle_provenance
from .scores import AnswerScores, CountedShare, JudgedAnswer, RightChange, worst_first


@dataclass(frozen=True)
class ReportFindings:
    """What a run found out; the lists are by subject.

    Attributes:
        reference: the place of the subject that the others are compared with.
        peaks: of this CPU, where floors are made of them.
        gaps: what was not measured, in words.
        attribution: what drift came from, ``[{"part", "points", "feature_error", "is_total"}]``, or None; attributed:
            whose that is, in words.
        provenance: of the run.
        is_in_turn: all subjects were loaded at once and asked in turn.
    """

    title: str
    made: str
    questions: Sequence[AskedQuestion]
    asked: Sequence[AskedSubject]
    reference: int
    judged: Sequence[Sequence[JudgedAnswer]]
    scores: Sequence[AnswerScores]
    measures: Sequence[SubjectMeasures]
    peaks: HostPeaks | None
    gaps: Sequence[str]
    attribution: Sequence[dict] | None
    provenance: dict[str, str]
    max_new_tokens: int
    is_in_turn: bool = True
    attributed: str | None = None


def report_document(findings: ReportFindings) -> dict:
    """The document, but for ``page``, which says how the pictures were made to fit."""
    questions = findings.questions
    return {
        "title": findings.title,
        "made": findings.made,
        "reference": findings.asked[findings.reference].subject.name,
        "asked": {
            "questions": len(questions),
            "pictures": len({picture for question in questions for picture in question.pictures}),
            "with_known_answer": sum(question.truth is not None for question in questions),
            "max_new_tokens": findings.max_new_tokens,
            "in_turn": findings.is_in_turn,
        },
        "bundles": [_bundle(findings, place) for place in range(len(findings.asked))],
        "answers": [_answers(findings, index) for index in worst_first(findings.judged, findings.reference)],
        "attribution": list(findings.attribution) if findings.attribution else None,
        "attributed": findings.attributed,
        "peaks": _peaks(findings.peaks),
        "not_measured": list(findings.gaps),
        "provenance": findings.provenance,
    }


def _bundle(findings: ReportFindings, place: int) -> dict:
    asked, measured, scores = findings.asked[place], findings.measures[place], findings.scores[place]
    bundle = asked.subject.bundle
    energy = measured.energy
    return {
        "name": asked.subject.name,
        "is_reference": place == findings.reference,
        "depth": bundle.depths[0],
        "precision": bundle.manifest.vision.precision,
        "decoder_precision": bundle.manifest.decoder.precision,
        "runtime": asked.runtime,
        "text_runtime": asked.text_runtime,
        "stored_bytes": measured.stored_bytes,
        "right": _share(scores.right),
        "change": _change(scores.change),
        "same_text": _share(scores.same_text),
        "same_first_token": _share(scores.same_first_token),
        "prefix_share": scores.prefix_share,
        "times": asdict(measured.times),
        "floors": _floors(measured),
        "peak_bytes": measured.peak_bytes,
        "device_bytes": measured.device_bytes,
        "energy": {"joules_per_answer": energy.joules_per_image, "watts": energy.watts} if energy else None,
        "drift": asdict(measured.drift) if measured.drift else None,
        "decoder_cost": _decoder_cost(bundle.manifest),
        "remarks": list(bundle.manifest.notes),
        "provenance": bundle_provenance(bundle),
    }


def _floors(measured: SubjectMeasures) -> dict:
    floors, times = measured.floors, measured.times
    ratio = lambda value, floor: value / floor if value is not None and floor else None
    step_ms = 1000 / times.tokens_per_s if times.tokens_per_s else None
    return {
        "encode_ms": floors.encode_ms,
        "prefill_ms": floors.prefill_ms,
        "step_ms": floors.step_ms,
        "bound": floors.bound,
        "encode_times_floor": ratio(times.encode_ms, floors.encode_ms),
        "prefill_times_floor": ratio(times.prefill_ms, floors.prefill_ms),
        "step_times_floor": ratio(step_ms, floors.step_ms),
    }


def _share(share: CountedShare | None) -> dict | None:
    if share is None:
        return None
    return {
        "count": share.count,
        "of": share.of,
        "share": share.interval.value,
        "low": share.interval.low,
        "high": share.interval.high,
    }


def _change(change: RightChange | None) -> dict | None:
    if change is None:
        return None
    points = {name: 100 * getattr(change.interval, name) for name in ("value", "low", "high")}
    return {
        "gained": change.gained,
        "lost": change.lost,
        "points": points["value"],
        "low": points["low"],
        "high": points["high"],
    }


def _decoder_cost(manifest: Manifest) -> dict | None:
    """What the language model's precision cost when it was exported, on texts."""
    cost = manifest.accuracy.get("decoder", {}).get("cost")
    if cost is None:
        return None
    return {name: cost[name] for name in ("kl_mean", "same_where_decided", "perplexity_ratio")}


def _peaks(peaks: HostPeaks | None) -> dict | None:
    if peaks is None:
        return None
    return {"flops": peaks.flops, "int8_ops": peaks.int8_ops, "bandwidth": peaks.bandwidth}


def _answers(findings: ReportFindings, index: int) -> dict:
    question = findings.questions[index]
    return {
        "place": index + 1,
        "id": question.id,
        "kind": question.kind,
        "pictures": list(question.names),
        "question": question.words,
        "truth": question.truth,
        "answers": [_answer(answers[index]) for answers in findings.judged],
    }


def _answer(judged: JudgedAnswer) -> dict:
    likeness = judged.likeness
    return {
        "text": judged.text,
        "refused": judged.refused,
        "right": judged.right,
        "same_text": None if likeness is None else likeness.same_text,
        "same_first_token": None if likeness is None else likeness.same_first_token,
        "prefix": None if likeness is None else likeness.prefix,
        "prefix_of": None if likeness is None else likeness.of,
    }
