"""What both bundles are asked: the user's questions, or one about each golden picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from laco_export.bundle import Bundle
from laco_export.conversation import DEFAULT_QUESTION
from laco_export.golden import read_golden

from ..asked_question import AskedQuestion
from ..prompts.visuals import Picture


@dataclass(frozen=True)
class DriftQuestion:
    """A question about pictures.

    Attributes:
        id: what tells it apart; names: of its pictures, for people.
        text: as the model is asked.
    """

    id: str
    pictures: tuple[Picture, ...]
    names: tuple[str, ...]
    text: str


def users_questions(asked: Sequence[AskedQuestion]) -> list[DriftQuestion]:
    """Of a file that was read."""
    return [DriftQuestion(question.id, question.pictures, question.names, question.text) for question in asked]


def golden_questions(bundle: Bundle) -> list[DriftQuestion]:
    """:data:`DEFAULT_QUESTION` about each golden picture, which is of the encoder's size already: how pictures of other
    sizes are resized does not show.

    Raises:
        BundleError: the golden file cannot be read.
    """
    golden = read_golden(bundle)
    pairs = zip(golden.names, golden.pictures, strict=True)
    return [DriftQuestion(name, (Image.fromarray(pixels),), (name,), DEFAULT_QUESTION) for name, pixels in pairs]
