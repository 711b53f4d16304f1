"""A sample's conversation: who says what, which pictures it names, and which of its words are trained on.

``<image>`` and ``<video>`` are also words of HTML and SVG. They are marks in what the user says and where the sample
names pictures or videos; elsewhere they are text. A user's turn that begins or ends with such a line of its own
(LLaVA's form) means a picture even where the sample names none: it was lost, and the sample is broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from laco_export.chat_format import CHATML, ChatFormat
from laco_export.conversation import IMAGE_MARK, VIDEO_MARK, Turn, training_spans

from .errors import DataError
from .pictures import PictureName

KINDS = ("text", "image", "images", "video")
"""What a sample shows: nothing, one picture, several, or a video (with or without pictures)."""

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
USERS = tuple(name for name, role in _ROLES.items() if role == "user")
_MOST = 2**15 - 1  # pictures are counted in 16 bits
_IMAGE_FIELDS = ("image", "images")  # LLaVA's and the Hub's name
_LINE = {mark: re.compile(rf"\A\s*{mark}[ \t]*(\n|\Z)|\n[ \t]*{mark}\s*\Z") for mark in (IMAGE_MARK, VIDEO_MARK)}


class Piece(NamedTuple):
    """A part of the prompt: text, with whether its tokens count for the loss, or the mark of a picture or a video."""

    text: str
    counts: bool
    is_mark: bool = False


def turns_of(entry: Mapping) -> list[Turn]:
    """A sample's conversation as ``(role, text)`` turns.

    Raises:
        DataError: it has none, or a turn of another shape, or an unknown speaker.
    """
    conversations = entry.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise DataError("it has no conversations")
    turns = []
    for turn in conversations:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            raise DataError("a turn of its conversation has no text", allowed='{"from": "human", "value": "…"}')
        if turn.get("from") not in _ROLES:
            raise DataError(f"unknown speaker {turn.get('from')!r}", allowed=", ".join(_ROLES))
        turns.append((_ROLES[turn["from"]], turn["value"]))
    return turns


def alternating_turns_of(entry: Mapping) -> list[Turn]:
    """The turns of a sample to train on: a system line if any, then question and answer by turns.

    Raises:
        DataError: as :func:`turns_of`; the conversation starts with an answer, does not alternate, or has no answer.
    """
    turns = turns_of(entry)
    roles = [role for role, _ in turns]
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken[:1] != ["user"] or "system" in spoken or any(role == following for role, following in pairwise(spoken)):
        raise DataError("its conversation does not alternate", given=", ".join(roles[:8]), allowed="user, assistant, …")
    if "assistant" not in spoken:
        raise DataError("it has no answer to learn")
    return turns


def image_names(entry: Mapping) -> list[PictureName]:
    """The pictures of a sample, in the order of their marks."""
    for field in _IMAGE_FIELDS:
        if (images := entry.get(field)) is not None and images != "" and images != []:
            return list(images) if isinstance(images, (list, tuple)) else [images]
    return []


def video_names(entry: Mapping) -> list:
    """The videos of a sample: each a name, a struct of bytes, or a list of its frames' names.

    A plain list is several videos where the conversation marks several, else the frames of one.
    """
    video = entry.get("video")
    if video is None or video in ("", []):
        return []
    if not isinstance(video, list):
        return [video]
    return video if _video_marks(entry) > 1 else [video if len(video) != 1 else video[0]]


def pieces_of(entry: Mapping, *, plain: bool = False, chat_format: ChatFormat = CHATML) -> list[Piece]:
    """The prompt in pieces: the answers and their end count for the loss.

    Args:
        plain: stage 1's form, see :func:`plain_pieces`.

    Raises:
        DataError: as :func:`alternating_turns_of`; with ``plain``, as :func:`plain_pieces`.
        UsageError: the sample has a system line, for which the format has no place.
    """
    if plain:
        (marks, _), caption = plain_pieces(entry)
        spans = [(chat_format.begin, "system", False), (marks, "user", False), (*caption[:1], "assistant", True)]
    else:
        spans = training_spans(_with_video_marks(entry, alternating_turns_of(entry)), chat_format)
    marks = [IMAGE_MARK, VIDEO_MARK] if plain else marks_of(entry)
    divided = re.compile(f"({'|'.join(marks)})") if marks else None
    pieces = []
    for text, role, counts in spans:
        if divided is None or role != "user":
            pieces.append(Piece(text, counts))
            continue
        parts = divided.split(text)  # text and mark by turns
        pieces += [Piece(part, False, is_mark=place % 2 == 1) for place, part in enumerate(parts) if part]
    return [piece for piece in pieces if piece.text]


def plain_pieces(entry: Mapping) -> list[tuple[str, bool]]:
    """Stage 1: the picture marks, a newline, and the first answer, which alone counts; the question is dropped."""
    answers = [text for role, text in turns_of(entry) if role == "assistant"]
    if not answers or not answers[0].strip():
        raise DataError("its caption is empty" if answers else "it has no caption")
    marks = IMAGE_MARK * len(image_names(entry)) + VIDEO_MARK * len(video_names(entry))
    return [(marks + "\n", False), (answers[0], True)]


def pictures_of(entry: Mapping) -> int:
    """How many pictures a sample names, or minus the number of its videos; does not open them."""
    videos = len(video_names(entry))
    return min(_MOST, len(image_names(entry))) if not videos else -min(_MOST, videos)


def kinds_of(pictures: np.ndarray) -> np.ndarray:
    """Indices into :data:`KINDS` from what :func:`pictures_of` counted."""
    return np.where(pictures < 0, KINDS.index("video"), np.clip(pictures, 0, 2))


def text_length(entry: Mapping) -> int:
    """Bytes of the conversation's texts; 0 where it has none."""
    conversations = entry.get("conversations")
    if not isinstance(conversations, list):
        return 0
    texts = (turn.get("value") for turn in conversations if isinstance(turn, Mapping))
    return sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))


def marks_of(entry: Mapping) -> list[str]:
    """Which of the two marks are marks in this sample: those of what it names, and of what it has lost."""
    named = {IMAGE_MARK: image_names(entry), VIDEO_MARK: video_names(entry)}
    turns = _with_video_marks(entry, turns_of(entry))
    asked = [text for role, text in turns if role == "user"]
    return [mark for mark in named if named[mark] or any(_LINE[mark].search(text) for text in asked)]


def _with_video_marks(entry: Mapping, turns: list[Turn]) -> list[Turn]:
    """LLaVA's data marks a video ``<image>``: where a sample has videos and no pictures, that mark means a video."""
    if not video_names(entry) or image_names(entry) or _asked(entry, VIDEO_MARK):
        return turns
    return [(role, text.replace(IMAGE_MARK, VIDEO_MARK) if role == "user" else text) for role, text in turns]


def _video_marks(entry: Mapping) -> int:
    return _asked(entry, VIDEO_MARK) or (0 if image_names(entry) else _asked(entry, IMAGE_MARK))


def _asked(entry: Mapping, mark: str) -> int:
    """How often the user says a mark."""
    turns = entry.get("conversations")
    if not isinstance(turns, list):
        return 0
    asked = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("from") in USERS]
    return sum(str(turn.get("value")).count(mark) for turn in asked)
