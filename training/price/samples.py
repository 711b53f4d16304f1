"""Pictures to price a merge on, each with a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from laco_export.conversation import DEFAULT_QUESTION, IMAGE_MARK, Turn
from laco_export.errors import LacoError, UsageError
from laco_export.picture_files import picture_files

from ..data import DataError, image_names, read_entries, turns_of
from ..data.pictures import Pictures

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
        source: of the pictures.
        entries: samples as recipes take them, of which the first question counts.

    Attributes:
        broken: name of each sample that cannot be used, with the reason (:meth:`drop_broken`).
    """

    def __init__(self, source: Pictures, entries: Sequence[Mapping]):
        self._source, self._entries = source, list(entries)
        self.broken: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: int) -> PriceSample:
        """
        Raises:
            DataError, ImageError: its pictures cannot be read, or it asks nothing about them.
        """
        entry = self._entries[place]
        turns, names = turns_of(entry), image_names(entry)
        asked = next((number for number, (role, _) in enumerate(turns) if role == "user"), None)
        if asked is None or turns[asked][1].count(IMAGE_MARK) != len(names):
            raise DataError("its first question does not mark its pictures", allowed=f"one {IMAGE_MARK} for each")
        return PriceSample(_name_of(entry), turns[: asked + 1], [self._source.picture(name) for name in names])

    def drop_broken(self, allowed: float) -> None:
        """Read each once; those that cannot be used are left out and named in :attr:`broken`.

        Args:
            allowed: the share of the samples that may be.

        Raises:
            UsageError: more cannot be used, or all.
        """
        total, whole = len(self), []
        for place, entry in enumerate(self._entries):
            try:
                self[place]
            except (LacoError, OSError) as error:
                self.broken[_name_of(entry)] = str(getattr(error, "failed", error)).splitlines()[0]
            else:
                whole.append(entry)
        self._entries = whole
        if not whole or len(self.broken) > allowed * total:
            raise UsageError(
                f"{len(self.broken)} of {total} samples cannot be used",
                given=self.describe_broken(),
                allowed=f"a share of {allowed:g}, and at least one that can",
                todo="mend them or take them out, or raise --max-broken",
            )

    def describe_broken(self) -> str:
        """The first of them with the reason, and how many more."""
        first = [f"{name}: {reason}" for name, reason in list(self.broken.items())[:_NAMED]]
        more = len(self.broken) - len(first)
        return "; ".join(first + [f"and {more} more"] * (more > 0))


def find_samples(images: Path, questions: Path | None, limit: int) -> PriceSamples:
    """At most ``limit`` samples, spread evenly over the pictures or over the questions; nothing is decoded yet.

    Args:
        images: a folder of pictures; with ``questions`` the folder or archive where they lie.
        questions: conversations as recipes take them; None asks :data:`DEFAULT_QUESTION` of each picture.

    Raises:
        UsageError, DataError: there are no pictures, or no questions about any.
    """
    if questions is not None:
        entries = [entry for entry in read_entries(questions) if image_names(entry)]
        if not entries:
            raise UsageError(f"'{questions}' asks nothing about pictures", allowed="conversations that name an image")
    elif images.is_dir():
        entries = [_default_entry(str(path.relative_to(images))) for path in picture_files([images])]
    else:
        raise UsageError(f"there is no folder of pictures '{images}'", allowed="a folder")
    places = np.unique(np.linspace(0, len(entries) - 1, min(limit, len(entries))).astype(int)).tolist()
    return PriceSamples(Pictures(images), [entries[place] for place in places])


def _default_entry(name: str) -> dict:
    turn = {"from": "human", "value": f"{IMAGE_MARK}\n{DEFAULT_QUESTION}"}
    return {"id": name, "image": name, "conversations": [turn]}


def _name_of(entry: Mapping) -> str:
    return str(entry.get("id", image_names(entry)[0]))
