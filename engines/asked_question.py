"""A question about pictures with what is known of its answer: what bundles are compared on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.conversation import IMAGE_MARK


@dataclass(frozen=True)
class AskedQuestion:
    """A question about pictures.

    Attributes:
        id: what tells it apart from the others.
        pictures: files, in reading order; at least one.
        names: of the pictures, for people: relative to the folder that they are looked for in.
        text: as the model is asked; it may place its pictures with ``<image>``.
        truth: the right answer; None where nobody said.
        kind: what sort of question it is; empty where nobody said.
    """

    id: str
    pictures: tuple[Path, ...]
    names: tuple[str, ...]
    text: str
    truth: str | None = None
    kind: str = ""

    @property
    def words(self) -> str:
        """The text without marks, for people."""
        return re.sub(rf"\s*{IMAGE_MARK}\s*", " ", self.text).strip()

    def is_right(self, answer: str) -> bool | None:
        """Whether an answer is the truth, letter by letter but for space around it; None where that is not known."""
        return None if self.truth is None else answer.strip() == self.truth.strip()


def about_every_picture(texts: Sequence[str], pictures: Sequence[Path], folder: Path) -> list[AskedQuestion]:
    """Each question about each picture alone, picture by picture."""
    names = [picture.relative_to(folder).as_posix() for picture in pictures]
    return [
        AskedQuestion(f"{name} #{number}", (picture,), (name,), text)
        for picture, name in zip(pictures, names)
        for number, text in enumerate(texts, 1)
    ]
