"""``--questions FILE`` with ``--images DIR``: what bundles are asked to be compared.

Two forms are read::

    questions.txt                                 one question a line, asked about every picture of DIR
    heldout.json, heldout.jsonl                   samples as laco-train and laco-calibrate take them, …
    {"image": "a.png", "conversations": […]}      … whose first question counts, with its answer as the truth
    {"image": "a.png", "question": "…", "answer": "…"}    or said so; without "answer" the truth is not known

Pictures are named relative to DIR; ``id`` and ``kind`` are optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from laco_export.errors import UsageError
from laco_export.picture_files import picture_files

from ..asked_question import AskedQuestion, about_every_picture

_SAMPLES = (".json", ".jsonl")
_FORMS = "one question a line, or samples with image and conversations (or question and answer) in .json or .jsonl"


def read_questions(path: Path, folder: Path) -> list[AskedQuestion]:
    """The questions of a file about the pictures of a folder; the pictures are not read.

    Raises:
        UsageError: no such file or folder, nothing is asked, or pictures are missing: all of them are named.
        DataError: a sample cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--images '{folder}' is not a folder", allowed="the folder that holds the pictures")
    if not path.is_file():
        raise UsageError(f"--questions '{path}' is not a file", allowed=_FORMS)
    if path.suffix.lower() not in _SAMPLES:
        questions = about_every_picture(_lines(path), picture_files([folder]), folder)
    else:
        questions = _samples(path, folder)
    if not questions:
        raise UsageError(f"--questions '{path}' asks nothing about a picture", allowed=_FORMS)
    _require_pictures(questions, path, folder)
    return questions


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"--questions '{path}' is not UTF-8 text: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def _samples(path: Path, folder: Path) -> list[AskedQuestion]:
    from laco_training.data import DataError, read_entries

    questions = []
    for index, entry in enumerate(read_entries(path)):
        try:
            question = _question_of(entry, index, folder)
        except DataError as error:
            raise DataError(
                f"'{path}', sample {index}: {error.failed}", given=error.given, allowed=error.allowed
            ) from None
        if question is not None:
            questions.append(question)
    return questions


def _question_of(entry: Mapping, index: int, folder: Path) -> AskedQuestion | None:
    """None for a sample without a picture or without a question."""
    from laco_training.data import image_names

    names = tuple(name for name in image_names(entry) if isinstance(name, str))
    text, truth = _first_question(entry)
    if not names or text is None:
        return None
    pictures = tuple(folder / name for name in names)
    return AskedQuestion(str(entry.get("id", index)), pictures, names, text, truth, str(entry.get("kind") or ""))


def _first_question(entry: Mapping) -> tuple[str | None, str | None]:
    """The question and the truth, each None where there is none."""
    from laco_training.data import DataError, turns_of

    if (text := entry.get("question")) is not None:
        truth = entry.get("answer")
        if not isinstance(text, str) or not isinstance(truth, str | None):
            raise DataError("its question or its answer is no text", allowed='{"question": "…", "answer": "…"}')
        return text.strip() or None, truth
    if not entry.get("conversations"):
        return None, None
    turns = turns_of(entry)
    asked = next((place for place, (role, _) in enumerate(turns) if role == "user"), None)
    if asked is None:
        return None, None
    truths = [text for role, text in turns[asked + 1 : asked + 2] if role == "assistant" and text.strip()]
    return turns[asked][1], truths[0] if truths else None


def _require_pictures(questions: list[AskedQuestion], path: Path, folder: Path) -> None:
    missing = dict.fromkeys(
        name
        for question in questions
        for name, picture in zip(question.names, question.pictures)
        if not picture.is_file()
    )
    if missing:
        raise UsageError(
            f"{len(missing)} pictures of '{path}' are not in '{folder}'",
            given=", ".join(missing),
            todo="name the folder that their names are relative to: --images DIR",
        )
