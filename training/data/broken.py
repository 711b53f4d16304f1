"""Samples that cannot be used: named, counted and skipped, up to a limit.

::

    {"index": 4711, "id": "coco-12", "file": "llava_558k.json", "reason": "'coco/12.jpg' does not exist",
     "cause": "picture cannot be read"}

One line for each in ``broken-samples.jsonl``, which all processes of a run and all its resumptions share; so the count
is the run's, wherever a sample was met. Reading never raises for a broken sample: it notes it and takes another one,
and the notes travel with the batch to the training process, which keeps this log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from laco_export.errors import LacoError

from .causes import OTHER_CAUSE
from .errors import DataError, SampleError
from .odd import OddSample, OddSamples, counted_words
from .sample_logs import append_lines, key_of, logged_samples

_NAMED = 5  # in the error message


@dataclass(frozen=True)
class BrokenSample:
    """Which sample it is and what is wrong with it.

    Attributes:
        index: in the dataset; in a stream, which has no places, -1, or a row's checksum where it has no id.
        id: the sample's own, or what tells it from others.
        reason: what is wrong with it, in words.
        cause: one of :data:`~.causes.CAUSES`.
    """

    index: int
    id: str
    file: str
    reason: str
    cause: str = OTHER_CAUSE

    @classmethod
    def of_error(cls, index: int, id: str, file: str, error: Exception) -> BrokenSample:
        """The sample that an error came of."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, LacoError):
            reason = error.failed if error.given is None else f"{error.failed} ({error.given})"
        return cls(index, id, file, reason, error.cause if isinstance(error, SampleError) else OTHER_CAUSE)


@dataclass(frozen=True)
class BatchNotes:
    """What the training process is told of a batch besides its tensors.

    Attributes:
        ids: of the samples, in the batch's order.
        truncated: how many were cut to ``max_length``.
        broken: samples that were met and skipped on the way.
        odd: samples of the batch that were mended (:mod:`.odd`).
        complete: False where a sample was broken and so was everything that was tried in its place.
        positions: where the stream stood after the batch, by worker (:mod:`.stream` only).
    """

    ids: Sequence[str] = ()
    truncated: int = 0
    broken: Sequence[BrokenSample] = ()
    odd: Sequence[OddSample] = ()
    complete: bool = True
    positions: dict = field(default_factory=dict)

    @classmethod
    def joined(cls, notes: Sequence[BatchNotes]) -> BatchNotes:
        """The notes of a batch from those of its samples."""
        positions: dict = {}
        for note in notes:
            positions.update(note.positions)
        return cls(
            ids=[name for note in notes for name in note.ids],
            truncated=sum(note.truncated for note in notes),
            broken=[sample for note in notes for sample in note.broken],
            odd=[sample for note in notes for sample in note.odd],
            complete=all(note.complete for note in notes),
            positions=positions,
        )


class BrokenSamples:
    """Counts a run's broken samples, and stops it when they are too many.

    Args:
        log: the file that names them; what stands in it counts.
        limit: as many may be skipped; below 1 it is a share of ``total``.
        total: samples of the dataset.
        odd: names those that are mended; None names none.
    """

    def __init__(self, log: Path, *, limit: float, total: int, odd: OddSamples | None = None):
        self.log, self.odd = log, odd
        self.limit = int(limit * total) if limit < 1 else int(limit)
        self._seen = {key_of(sample) for sample in self._logged()}

    def __len__(self) -> int:
        return len(self._seen)

    def lines(self) -> list[str]:
        """What was mended and what was skipped so far, counted by cause, for whoever watches."""
        odd, broken = (self.odd.by_cause() if self.odd else Counter()), self.by_cause()
        return [
            *([f"samples that were mended: {counted_words(odd)} (all in '{self.odd.log}')"] if odd else []),
            *([f"samples that were skipped: {counted_words(broken)} (all in '{self.log}')"] if broken else []),
        ]

    def by_cause(self) -> Counter[str]:
        """How many samples are broken for each cause, in all processes and resumptions."""
        return Counter(sample.get("cause", OTHER_CAUSE) for sample in self._logged())

    def record(self, notes: BatchNotes) -> None:
        """Take a batch's notes.

        Raises:
            DataError: more samples are broken than the limit allows, or nothing usable was found in a sample's place.
        """
        if self.odd:
            self.odd.record(notes.odd)
        if not notes.broken and notes.complete:
            return
        if new := [sample for sample in map(asdict, notes.broken) if key_of(sample) not in self._seen]:
            append_lines(self.log, new)
        logged = self._logged()
        self._seen = {key_of(sample) for sample in logged}
        if len(self) > self.limit:
            raise self._too_many(logged)
        if not notes.complete:
            raise self._nothing_usable({key_of(sample): sample for sample in map(asdict, notes.broken)})

    def _logged(self) -> list[dict]:
        return logged_samples(self.log)

    def _too_many(self, logged: list[dict]) -> DataError:
        return DataError(
            f"{len(logged)} broken sample{'s' if len(logged) > 1 else ''}, and max_broken allows {self.limit}",
            given=named(logged),
            todo=f"correct them (they are in '{self.log}'), or raise the stage's max_broken",
        )

    def _nothing_usable(self, tried: dict[tuple, dict]) -> DataError:
        return DataError(
            f"none of {len(tried)} samples that were tried one for another can be used",
            given=named(list(tried.values())),
            todo=f"check the stage's data and images; all broken samples are in '{self.log}'",
        )


def named(samples: Sequence[dict]) -> str:
    """The first broken samples with what is wrong with them, a line each, for an error message."""
    first = [f"sample '{s['id']}' of '{s['file']}': {s['reason']}" for s in samples[:_NAMED]]
    more = [f"and {len(samples) - _NAMED} more"] if len(samples) > _NAMED else []
    return "\n           ".join(first + more)
