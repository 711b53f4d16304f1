"""Samples that cannot be used: named, counted and skipped, up to a limit.

::

    {"index": 4711, "id": "coco-12", "file": "llava_558k.json", "reason": "'coco/12.jpg' does not exist"}

One line for each in ``broken-samples.jsonl``, which all processes of a run and all its resumptions share; so the count
is the run's, wherever a sample was met. Reading never raises for a broken sample: it notes it and takes another one,
and the notes travel with the batch to the training process, which keeps this log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import DataError

_NAMED = 5  # in the error message


@dataclass(frozen=True)
class BrokenSample:
    """Which sample it is and what is wrong with it.

    Attributes:
        index: in the dataset; in a stream, which has no places, -1, or a row's checksum where it has no id.
        id: the sample's own, or what tells it from others.
    """

    index: int
    id: str
    file: str
    reason: str


@dataclass(frozen=True)
class BatchNotes:
    """What the training process is told of a batch besides its tensors.

    Attributes:
        ids: of the samples, in the batch's order.
        truncated: how many were cut to ``max_length``.
        broken: samples that were met and skipped on the way.
        complete: False where a sample was broken and so was everything that was tried in its place.
        positions: where the stream stood after the batch, by worker (:mod:`.stream` only).
    """

    ids: Sequence[str] = ()
    truncated: int = 0
    broken: Sequence[BrokenSample] = ()
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
            complete=all(note.complete for note in notes),
            positions=positions,
        )


class BrokenSamples:
    """Counts a run's broken samples, and stops it when they are too many.

    Args:
        log: the file that names them; what stands in it counts.
        limit: as many may be skipped; below 1 it is a share of ``total``.
        total: samples of the dataset.
    """

    def __init__(self, log: Path, *, limit: float, total: int):
        self.log = log
        self.limit = int(limit * total) if limit < 1 else int(limit)
        self._seen = {_key(sample) for sample in self._logged()}

    def __len__(self) -> int:
        return len(self._seen)

    def record(self, notes: BatchNotes) -> None:
        """Take a batch's notes.

        Raises:
            DataError: more samples are broken than the limit allows, or nothing usable was found in a sample's place.
        """
        if not notes.broken and notes.complete:
            return
        if new := [sample for sample in map(asdict, notes.broken) if _key(sample) not in self._seen]:
            self._append(new)
        logged = self._logged()
        self._seen = {_key(sample) for sample in logged}
        if len(self) > self.limit:
            raise self._too_many(logged)
        if not notes.complete:
            raise self._nothing_usable({_key(sample): sample for sample in map(asdict, notes.broken)})

    def _append(self, samples: Sequence[dict]) -> None:
        lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (self._line_end() + lines).encode())  # one write: processes' lines do not mix
        finally:
            os.close(descriptor)

    def _line_end(self) -> str:
        """What ends a line that a killed process left unfinished."""
        data = self.log.read_bytes()
        return "\n" if data and not data.endswith(b"\n") else ""

    def _logged(self) -> list[dict]:
        samples: dict[tuple, dict] = {}
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    sample = json.loads(line)
                    samples.setdefault(_key(sample), sample)
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # an unfinished line
        return list(samples.values())

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


def _key(sample: dict) -> tuple:
    return sample["index"], sample["file"], sample["id"]
