"""A sample as it is trained on: what published data has of oddities is mended here, and each is counted by its cause.

==============================  ======================================================================================
a leading answer                dropped, with others before the first question
two turns of one speaker        joined by a newline
more pictures than marks        the first pictures are shown, as many as there are marks
more marks than pictures        the last picture is shown again
a special token in a text       is what the tokenizer makes of it; only one that stands for a picture breaks the sample
==============================  ======================================================================================

That is what LLaVA-NeXT does (``llava/train/train.py``, ``llava/model/llava_arch.py``) but for the second: it writes two
turns. Spellings and paths are :mod:`.conversations`'. A mark without any picture and an empty answer break a sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from laco_export.chat_format import CHATML, ChatFormat
from laco_export.conversation import IMAGE_MARK, VIDEO_MARK, Turn, training_spans

from .causes import (
    ANSWER_FIRST,
    EMPTY_ANSWER,
    LATE_SYSTEM_LINE,
    LOST_PICTURE,
    MARK_REPEATED,
    NO_ANSWER,
    PICTURE_WITHOUT_MARK,
    SAME_SPEAKER,
)
from .conversations import image_names, marks_of, plain_pieces, turns_of, video_names, with_video_marks
from .errors import SampleError
from .pictures import PictureName


class Conversation(NamedTuple):
    """A sample as it is trained on.

    Attributes:
        turns: a system line if any, then question and answer by turns; with ``plain`` the marks and the caption.
        marks: which of ``<image>`` and ``<video>`` are marks in the user's turns; elsewhere they are text.
        images, videos: one for each mark, in the order of the marks.
    """

    turns: list[Turn]
    marks: list[str]
    images: list[PictureName]
    videos: list


class Piece(NamedTuple):
    """A part of the prompt: text, with whether its tokens count for the loss, or the mark of a picture or a video."""

    text: str
    counts: bool
    is_mark: bool = False


def read_conversation(entry: Mapping, odd: set[str], *, plain: bool = False) -> Conversation:
    """A sample, mended.

    Args:
        odd: gets the causes, of :data:`~.causes.ODDITIES`.
        plain: stage 1's form, see :func:`~.conversations.plain_pieces`.

    Raises:
        SampleError: the sample cannot be used.
    """
    images, videos = image_names(entry, odd), video_names(entry, odd)
    if plain:
        turns_of(entry, odd)
        (marks, _), (caption, _) = plain_pieces(entry)
        return Conversation([("user", marks), ("assistant", caption)], [IMAGE_MARK, VIDEO_MARK], images, videos)
    turns = with_video_marks(entry, mended_turns(turns_of(entry, odd), odd))
    marks = marks_of(entry)
    said = [text for role, text in turns if role == "user"]
    images, videos = (
        one_for_each_mark(names, sum(text.count(mark) for text in said) if mark in marks else 0, mark, odd)
        for names, mark in ((images, IMAGE_MARK), (videos, VIDEO_MARK))
    )
    return Conversation(turns, marks, images, videos)


def mended_turns(turns: list[Turn], odd: set[str]) -> list[Turn]:
    """The turns of a sample to train on: a system line if any, then question and answer by turns.

    Raises:
        SampleError: there is a system line in between, no answer, or an empty one.
    """
    system, spoken = (turns[:1], turns[1:]) if turns[0][0] == "system" else ([], turns)
    if any(role == "system" for role, _ in spoken):
        raise SampleError(LATE_SYSTEM_LINE, "a system line stands in mid-conversation", allowed="one, at the beginning")
    first = next((place for place, (role, _) in enumerate(spoken) if role == "user"), len(spoken))
    if first:
        odd.add(ANSWER_FIRST)
    runs = [(role, [text for _, text in run]) for role, run in groupby(spoken[first:], key=lambda turn: turn[0])]
    if any(len(texts) > 1 for _, texts in runs):
        odd.add(SAME_SPEAKER)
    answers = [texts for role, texts in runs if role == "assistant"]
    if not answers:
        raise SampleError(NO_ANSWER, "it has no answer to learn")
    if any(not "".join(texts).strip() for texts in answers):
        raise SampleError(EMPTY_ANSWER, "an answer of its conversation is empty")
    return system + [(role, "\n".join(texts)) for role, texts in runs]


def one_for_each_mark(names: list, marked: int, mark: str, odd: set[str]) -> list:
    """As many pictures (or videos) as are marked: the first ones, or the last one again.

    Raises:
        SampleError: some are marked and there are none.
    """
    if marked and not names:
        raise SampleError(LOST_PICTURE, f"its text marks {mark} and it names none", given=f"{marked} marks")
    if marked < len(names):
        odd.add(PICTURE_WITHOUT_MARK)
    if marked > len(names):
        odd.add(MARK_REPEATED)
    return names[:marked] + names[-1:] * (marked - len(names))


def pieces_of(conversation: Conversation, *, plain: bool = False, chat_format: ChatFormat = CHATML) -> list[Piece]:
    """The prompt in pieces: the answers and their end count for the loss.

    Args:
        plain: there is no template: the marks, a newline, and the caption, which counts.

    Raises:
        UsageError: the sample has a system line, for which the format has no place.
    """
    if plain:
        (_, marks), (_, caption) = conversation.turns
        spans = [(chat_format.begin, "system", False), (marks, "user", False), (caption, "assistant", True)]
    else:
        spans = training_spans(conversation.turns, chat_format)
    divided = re.compile(f"({'|'.join(conversation.marks)})") if conversation.marks else None
    pieces = []
    for text, role, counts in spans:
        if divided is None or role != "user":
            pieces.append(Piece(text, counts))
            continue
        parts = divided.split(text)  # text and mark by turns
        pieces += [Piece(part, False, is_mark=place % 2 == 1) for place, part in enumerate(parts) if part]
    return [piece for piece in pieces if piece.text]
