"""From a bundle, a reference and questions to what each part of the bundle costs.

::

    reference = reference_at_depth(open_bundle(fp32), bundle)
    drift = attribute_drift(reference, bundle, golden_questions(bundle), AttributionOptions())
    drift.rows                          # each part's share, the rest, the whole
    drift.changed[0].cause              # of the first answer that is another

The parts: how pictures are resized and normalised, the blocks before and after the merge, the merge, the projector, the
language model's weights, and which tokens it has rows for. The vision towers run in parts on the CPU; beside that the
bundle's runs as it does for its user, and what its runtime adds is a part too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import ImageError, LacoError, UsageError

from .drift_questions import DriftQuestion
from .losses import Loss, mean_loss, squared_error_of
from .shares import PartLosses, PartShare, largest_share, share_out
from .switched_bundle import MODEL, VOCABULARY, AttributionOptions, Features, SwitchedBundle, SwitchedOn

RUNTIME = "runtime"
"""The part that is what the bundle's runtime makes of its tower, beside the same graph in parts."""


@dataclass(frozen=True)
class ChangedAnswer:
    """A question that the bundle answers otherwise than the reference.

    Attributes:
        rows: what each part did to this answer.
    """

    question: DriftQuestion
    reference_text: str
    text: str
    rows: list[PartShare]

    @property
    def cause(self) -> str | None:
        """The part that most of it came from; None where none alone does it."""
        largest = largest_share(self.rows)
        return None if largest is None else largest.part

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {
            "id": self.question.id,
            "pictures": list(self.question.names),
            "question": self.question.text,
            "reference": self.reference_text,
            "answer": self.text,
            "cause": self.cause,
            "parts": [row.to_dict(self.rows[-1].share) for row in self.rows],
        }


@dataclass
class DriftAttribution:
    """What came of it.

    Attributes:
        rows: each part's share over all questions, then the rest, then the whole.
        changed: the answers that are others.
        asked: questions that were asked; not_asked: the ids of others, with the reasons.
        judged_by: what ran the towers' parts; runtime: what runs the bundle's tower; text_runtime: its language model.
        remarks: what makes the numbers say less than they seem to.
    """

    rows: list[PartShare]
    changed: list[ChangedAnswer]
    asked: int
    not_asked: dict[str, str]
    judged_by: str
    runtime: str | None
    text_runtime: str
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """The ``--json`` document; ``attribution`` is what a report draws."""
        return {
            "asked": self.asked,
            "not_asked": self.not_asked,
            "judged_by": self.judged_by,
            "runtime": self.runtime,
            "text_runtime": self.text_runtime,
            "attribution": [row.to_dict(self.rows[-1].share) for row in self.rows],
            "changed": [answer.to_dict() for answer in self.changed],
            "remarks": self.remarks,
        }


def attribute_drift(
    reference: Bundle,
    bundle: Bundle,
    questions: Sequence[DriftQuestion],
    options: AttributionOptions,
    advance: Callable[[], None] = lambda: None,
) -> DriftAttribution:
    """Ask both, and every mixture of the two that has one part of the other.

    Args:
        reference, bundle: verified, of one depth, as :func:`~.reference.reference_at_depth` allows them.
        questions: at least one.
        advance: called for each.

    Raises:
        BundleError: one of them cannot be loaded or cut.
        RuntimeMissingError: nothing here runs one of the towers.
        UsageError, ImageError: none of the questions can be asked.
    """
    switched = SwitchedBundle(reference, bundle, options)
    measured: list[PartLosses] = []
    changed: list[ChangedAnswer] = []
    not_asked: dict[str, LacoError] = {}
    for question in questions:
        try:
            asked = _AskedQuestion(switched, question)
        except (ImageError, UsageError) as error:
            not_asked[question.id] = error
        else:
            losses = asked.losses()
            measured.append(losses)
            rows = share_out(switched.parts, losses, RUNTIME)
            if rows[-1].share.answer > 0:
                changed.append(ChangedAnswer(question, *asked.texts(), rows))
        advance()
    if not measured:
        raise next(iter(not_asked.values()))
    return DriftAttribution(
        rows=share_out(switched.parts, _mean(measured), RUNTIME),
        changed=changed,
        asked=len(measured),
        not_asked={name: error.failed for name, error in not_asked.items()},
        judged_by=switched.tower.bundle.judged_by,
        runtime=None if switched.vision is None else switched.vision.name,
        text_runtime=switched.answers.runtime,
        remarks=switched.remarks(),
    )


def _mean(measured: Sequence[PartLosses]) -> PartLosses:
    first = measured[0]
    return PartLosses(
        base=mean_loss([losses.base for losses in measured]),
        whole=mean_loss([losses.whole for losses in measured]),
        alone={part: mean_loss([losses.alone[part] for losses in measured]) for part in first.alone},
        back={part: mean_loss([losses.back[part] for losses in measured]) for part in first.back},
        as_it_runs=None if first.as_it_runs is None else mean_loss([losses.as_it_runs for losses in measured]),
    )


class _AskedQuestion:
    """One question to every mixture.

    Raises:
        UsageError, ImageError: it cannot be asked.
    """

    def __init__(self, switched: SwitchedBundle, question: DriftQuestion):
        self._switched = switched
        self._prompts = switched.prompts(question)
        self._features = switched.features(self._prompts)
        self._expected = self._features.by_choices[switched.before_the_model(frozenset())]
        self._answer = switched.answers.reference_answer(self._prompts[False], self._expected)
        self._losses: dict[tuple, Loss] = {}

    def losses(self) -> PartLosses:
        """Of every mixture."""
        every = frozenset(self._switched.differing)
        return PartLosses(
            base=self._loss_of(frozenset()),
            whole=self._loss_of(every),
            alone={part: self._loss_of(frozenset([part])) for part in self._switched.differing},
            back={part: self._loss_of(every - {part}) for part in self._switched.differing},
            as_it_runs=self._loss_as_it_runs(every),
        )

    def texts(self) -> tuple[str, str]:
        """The reference's answer and the bundle's."""
        answers, features = self._switched.answers, self._features.running
        if features is None:
            every = frozenset(self._switched.differing)
            features = self._features.by_choices[self._switched.before_the_model(every)]
        return answers.text_of(self._answer.token_ids), answers.bundles_text(self._prompts[True], features)

    def _loss_as_it_runs(self, every: SwitchedOn) -> Loss | None:
        running = self._features.running
        if running is None:
            return None
        in_parts = self._features.by_choices[self._switched.before_the_model(every)]
        if all(map(np.array_equal, running, in_parts)):
            return self._loss_of(every)
        return self._loss_on(running, model=True, vocabulary=True)

    def _loss_of(self, mixture: SwitchedOn) -> Loss:
        choices = self._switched.before_the_model(mixture)
        switched_on = {"model": MODEL in mixture, "vocabulary": VOCABULARY in mixture}
        key = choices, *switched_on.values()
        if key not in self._losses:
            self._losses[key] = self._loss_on(self._features.by_choices[choices], **switched_on)
        return self._losses[key]

    def _loss_on(self, features: Features, *, model: bool, vocabulary: bool) -> Loss:
        error = squared_error_of(np.concatenate(self._expected), np.concatenate(features)) if features else 0.0
        return self._switched.answers.loss(self._answer, features, error, model=model, vocabulary=vocabulary)
