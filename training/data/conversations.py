"""A sample as its file has it: who says what, and which pictures it names, in any of the published spellings.

::

    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}     LLaVA's
    {"system": "…", "conversations": …}                                                     ShareGPT's
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": …}]}   content: text or typed parts

``<image>`` and ``<video>`` are also words of HTML and SVG. They are marks in what the user says and where the sample
names pictures or videos; elsewhere they are text. A user's turn that begins or ends with such a line of its own
(LLaVA's form) means a picture even where the sample names none: it was lost, and the sample is broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from laco_export.conversation import IMAGE_MARK, VIDEO_MARK, Turn

from .causes import (
    EMPTY_ANSWER,
    NO_ANSWER,
    NO_CONVERSATION,
    NO_TEXT,
    NULL_PICTURE,
    OTHER_SPELLING,
    UNKNOWN_SPEAKER,
    WINDOWS_PATH,
)
from .errors import SampleError
from .pictures import PictureName

KINDS = ("text", "image", "images", "video")
"""What a sample shows: nothing, one picture, several, or a video (with or without pictures)."""

CONVERSATION_FIELDS = ("conversations", "messages")
SPEAKER_FIELDS, TEXT_FIELDS = ("from", "role"), ("value", "content")
"""LLaVA's names come first; what has others is an odd sample."""

_LLAVA = {"human": "user", "gpt": "assistant", "system": "system"}
_ROLES = {
    **_LLAVA,
    **dict.fromkeys(("user", "prompter"), "user"),
    **dict.fromkeys(("assistant", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
}
USERS = tuple(name for name, role in _ROLES.items() if role == "user")
_TYPED_MARKS = {"image": IMAGE_MARK, "image_url": IMAGE_MARK, "video": VIDEO_MARK}
_MOST = 2**15 - 1  # pictures are counted in 16 bits
_IMAGE_FIELDS = ("image", "images")  # LLaVA's and the Hub's name
_LINE = {mark: re.compile(rf"\A\s*{mark}[ \t]*(\n|\Z)|\n[ \t]*{mark}\s*\Z") for mark in (IMAGE_MARK, VIDEO_MARK)}


def turns_of(entry: Mapping, odd: set[str] | None = None) -> list[Turn]:
    """A sample's conversation as ``(role, text)`` turns, in their order.

    Args:
        odd: gets what is odd about the spelling, of :data:`~.causes.ODDITIES`.

    Raises:
        SampleError: it has none, or a turn of another shape, or an unknown speaker.
    """
    field = next((name for name in CONVERSATION_FIELDS if entry.get(name)), None)
    conversation = entry.get(field)
    if not isinstance(conversation, list):
        raise SampleError(NO_CONVERSATION, "it has no conversations")
    turns, spellings = [], {field}
    for turn in conversation:
        speaker_field, speaker = _first_of(turn, SPEAKER_FIELDS)
        text_field, text = _first_of(turn, TEXT_FIELDS)
        text = _text_of_parts(text) if isinstance(text, list) else text
        if not isinstance(text, str):
            raise SampleError(
                NO_TEXT, "a turn of its conversation has no text", allowed='{"from": "human", "value": "…"}'
            )
        role = _ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            raise SampleError(UNKNOWN_SPEAKER, f"unknown speaker {speaker!r}", allowed=", ".join(_ROLES))
        turns.append((role, text))
        spellings |= {speaker_field, text_field, "" if speaker in _LLAVA else speaker}
    if isinstance(system := entry.get("system"), str) and system.strip() and turns[0][0] != "system":
        turns.insert(0, ("system", system))
        spellings.add("system")
    if odd is not None and spellings != _USUAL_SPELLING:
        odd.add(OTHER_SPELLING)
    return turns


_USUAL_SPELLING = {CONVERSATION_FIELDS[0], SPEAKER_FIELDS[0], TEXT_FIELDS[0], ""}


def _first_of(turn: object, fields: tuple[str, ...]) -> tuple[str, object]:
    """The first of the fields that a turn has, with its value."""
    if isinstance(turn, Mapping):
        for field in fields:
            if turn.get(field) is not None:
                return field, turn[field]
    return fields[0], None


def _text_of_parts(parts: list) -> str | None:
    """The text of typed parts, ``[{"type": "image"}, {"type": "text", "text": "…"}]``; None where one is of no kind."""
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        texts.append(
            _TYPED_MARKS[kind] + "\n" if kind in _TYPED_MARKS else part.get("text") if kind == "text" else None
        )
    return None if None in texts else "".join(texts)


def image_names(entry: Mapping, odd: set[str] | None = None) -> list[PictureName]:
    """The pictures of a sample, in the order of their marks; none where the field is null, empty or missing.

    Args:
        odd: gets what is odd about the names, of :data:`~.causes.ODDITIES`.
    """
    for field in _IMAGE_FIELDS:
        if (images := entry.get(field)) is not None and images != "" and images != []:
            names = list(images) if isinstance(images, (list, tuple)) else [images]
            if odd is not None and None in names:
                odd.add(NULL_PICTURE)
            return [_posix(name, odd) for name in names if name is not None]
    return []


def _posix(name: PictureName, odd: set[str] | None) -> PictureName:
    """A name with the slashes that a path has here; Windows' own are in published lists of pictures."""
    if isinstance(name, bytes):  # a column of raw binary
        return {"bytes": name, "path": None}
    if isinstance(name, list):
        return [_posix(frame, odd) for frame in name]
    if isinstance(name, Mapping) and name.get("bytes") is None and isinstance(name.get("path"), str):
        return {**name, "path": _posix(name["path"], odd)}
    if not isinstance(name, str) or "\\" not in name:
        return name
    if odd is not None:
        odd.add(WINDOWS_PATH)
    return name.replace("\\", "/")


def video_names(entry: Mapping, odd: set[str] | None = None) -> list:
    """The videos of a sample: each a name, a struct of bytes, or a list of its frames' names.

    A plain list is several videos where the conversation marks several, else the frames of one.

    Args:
        odd: as :func:`image_names`.
    """
    video = entry.get("video")
    if video is None or video in ("", []):
        return []
    video = _posix(video, odd)
    if not isinstance(video, list):
        return [video]
    return video if _video_marks(entry) > 1 else [video if len(video) != 1 else video[0]]


def plain_pieces(entry: Mapping) -> list[tuple[str, bool]]:
    """Stage 1: the picture marks, a newline, and the first answer, which alone counts; the question is dropped."""
    answers = [text for role, text in turns_of(entry) if role == "assistant"]
    if not answers or not answers[0].strip():
        cause, failed = (EMPTY_ANSWER, "its caption is empty") if answers else (NO_ANSWER, "it has no caption")
        raise SampleError(cause, failed)
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
    return sum(len(text.encode("utf-8", "replace")) for _, text in _said(entry))


def _said(entry: Mapping) -> list[tuple[str | None, str]]:
    """Speakers and texts as far as they can be told, of a sample that may be broken."""
    conversation = next((entry[name] for name in CONVERSATION_FIELDS if entry.get(name)), None)
    if not isinstance(conversation, list):
        return []
    said = [(_first_of(turn, SPEAKER_FIELDS)[1], _first_of(turn, TEXT_FIELDS)[1]) for turn in conversation]
    said = [(speaker, _text_of_parts(text) if isinstance(text, list) else text) for speaker, text in said]
    return [(str(speaker).lower(), text) for speaker, text in said if isinstance(text, str)]


def marks_of(entry: Mapping) -> list[str]:
    """Which of the two marks are marks in this sample: those of what it names, and of what it has lost."""
    named = {IMAGE_MARK: image_names(entry), VIDEO_MARK: video_names(entry)}
    asked = [text for role, text in with_video_marks(entry, turns_of(entry)) if role == "user"]
    return [mark for mark in named if named[mark] or any(_LINE[mark].search(text) for text in asked)]


def with_video_marks(entry: Mapping, turns: list[Turn]) -> list[Turn]:
    """LLaVA's data marks a video ``<image>``: where a sample has videos and no pictures, that mark means a video."""
    if not video_names(entry) or image_names(entry) or _asked(entry, VIDEO_MARK):
        return turns
    return [(role, text.replace(IMAGE_MARK, VIDEO_MARK) if role == "user" else text) for role, text in turns]


def _video_marks(entry: Mapping) -> int:
    return _asked(entry, VIDEO_MARK) or (0 if image_names(entry) else _asked(entry, IMAGE_MARK))


def _asked(entry: Mapping, mark: str) -> int:
    """How often the user says a mark."""
    return sum(text.count(mark) for speaker, text in _said(entry) if speaker in USERS)
