"""Pictures to price a merge on, each with a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from laco_export.conversation import DEFAULT_QUESTION, IMAGE_MARK, Turn
from laco_export.errors import LacoError, UsageError

from ..data import DataError, MixturePart, image_names, open_pictures, pictures_of_parts, turns_of, with_pictures

_NAMED = 3  # broken samples, in an error


@dataclass(frozen=True)
class PriceSample:
    """A question about pictures.

    Attributes:
        turns: the conversation up to the question, with one mark for each picture.
        pictures: upright RGB, in the order of their marks.
    """

    name: str
    turns: list[Turn]
    pictures: list[Image.Image]

    @property
    def question(self) -> str:
        """Without marks, for the reader."""
        return self.turns[-1][1].replace(IMAGE_MARK, "").strip()


class PriceSamples:
    """Samples that are read from the disk whenever they are asked for.

    Args:
        parts: data files, and the rows of each that samples are taken of.
        images: where pictures lie, for parts that do not say.
        turns: of a sample up to its question.
        limit: as many are taken at most, spread evenly over all.

    Attributes:
        broken: name of each sample that cannot be used, with the reason (:meth:`drop_broken`).
        dropped: how many that are.
    """

    def __init__(
        self, parts: Sequence[MixturePart], images: Path, turns: Callable[[Mapping], list[Turn]], *, limit: int
    ):
        self._parts, self._turns = parts, turns
        self._pictures = pictures_of_parts(parts, images)
        ends = np.cumsum([len(part.rows) for part in parts])
        places = np.unique(np.linspace(0, ends[-1] - 1, min(limit, int(ends[-1]))).astype(np.int64))
        numbers = np.searchsorted(ends, places, side="right")
        starts = np.concatenate([[0], ends])
        self._rows = [(int(n), int(parts[n].rows[place - starts[n]])) for n, place in zip(numbers, places, strict=True)]
        self.broken: dict[str, str] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> PriceSample:
        """
        Raises:
            DataError, ImageError: its pictures cannot be read, or it asks nothing about them.
        """
        number, row = self._rows[place]
        entry = self._parts[number].source[row]
        if not (names := image_names(entry)):
            raise DataError("it has no picture")
        turns = self._turns(entry)
        pictures = [self._pictures[number].picture(name) for name in names]
        return PriceSample(self._parts[number].sample_name(row, entry), turns, pictures)

    def drop_broken(self, allowed: float, check: Callable[[PriceSample], None] = lambda sample: None) -> None:
        """Read each once; those that cannot be used are left out and named in :attr:`broken`.

        Args:
            allowed: the share of all samples that may be, with those that were left out before.
            check: raises a :class:`LacoError` about a sample that can be read and not be used.

        Raises:
            UsageError: more cannot be used, or all.
        """
        total, whole = len(self) + self.dropped, []
        for place, (number, row) in enumerate(self._rows):
            try:
                check(self[place])
            except (LacoError, OSError) as error:
                self.broken[self._name_at(number, row)] = str(getattr(error, "failed", error)).splitlines()[0]
            else:
                whole.append((number, row))
        self._rows, self.dropped = whole, total - len(whole)
        if not whole or self.dropped > allowed * total:
            raise UsageError(
                f"{self.dropped} of {total} samples cannot be used",
                given=self.describe_broken(),
                allowed=f"a share of {allowed:g}, and at least one that can",
                todo="mend them or take them out, or raise --max-broken",
            )

    def describe_broken(self) -> str:
        """The first of them with the reason, and how many more."""
        first = [f"{name}: {reason}" for name, reason in list(self.broken.items())[:_NAMED]]
        more = self.dropped - len(first)
        return "; ".join(first + [f"and {more} more"] * (more > 0))

    def _name_at(self, number: int, row: int) -> str:
        try:
            entry = self._parts[number].source[row]
        except LacoError:  # a damaged row group
            entry = None
        return self._parts[number].sample_name(row, entry)


def find_samples(images: Path, questions: Path | None, limit: int) -> PriceSamples:
    """At most ``limit`` samples, spread evenly over the pictures or over the questions; nothing is decoded yet.

    Args:
        images: pictures, as :func:`~laco_training.data.open_pictures` takes them; with ``questions`` the folder or
            archive where they lie.
        questions: conversations as recipes take them, of which the first question counts; None asks
            :data:`DEFAULT_QUESTION` about the pictures of each sample.

    Raises:
        DataError: there are no pictures, or no questions about any.
    """
    if questions is not None:
        root = images.parent if images.suffix == ".parquet" else images  # whose rows hold their pictures
        return PriceSamples(with_pictures(questions), root, _first_question, limit=limit)
    parts, root = open_pictures(images)
    return PriceSamples(parts, root, _default_question, limit=limit)


def _first_question(entry: Mapping) -> list[Turn]:
    turns, names = turns_of(entry), image_names(entry)
    asked = next((number for number, (role, _) in enumerate(turns) if role == "user"), None)
    if asked is None or turns[asked][1].count(IMAGE_MARK) != len(names):
        raise DataError("its first question does not mark its pictures", allowed=f"one {IMAGE_MARK} for each")
    return turns[: asked + 1]


def _default_question(entry: Mapping) -> list[Turn]:
    return [("user", f"{IMAGE_MARK * len(image_names(entry))}\n{DEFAULT_QUESTION}")]
