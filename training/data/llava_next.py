"""A sample as LLaVA-NeXT prepares it, for recipes with ``like: llava-next``.

What its Qwen path does (``preprocess_multimodal``, ``preprocess_qwen`` and ``preprocess_plain`` of
``llava/train/train.py``) where :mod:`.mending` does otherwise:

- a turn's only mark is moved to its front; marks count in answers too;
- turns of one speaker stay two turns, and an empty answer is trained on;
- without a picture ``<image>`` is text;
- all of an assistant's turn counts for the loss, its header and closing newline too, and of the other turns every
  ``<|im_start|>``, ``<|im_end|>`` and newline token;
- a caption follows its picture at once and ends in a newline, which counts.

Where LLaVA-NeXT raises on a sample and takes its neighbour, what can be read is read, by the rules of :mod:`.mending`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from laco_export.chat_format import CHATML, IM_END, IM_START, ChatFormat
from laco_export.conversation import IMAGE_MARK, VIDEO_MARK, written_turns
from laco_export.errors import ConfigError

from .causes import ANSWER_FIRST, LOST_PICTURE, NO_ANSWER
from .conversations import image_names, turns_of, video_names
from .errors import SampleError
from .mending import Conversation, Piece, one_for_each_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIKE_LLAVA_NEXT = "llava-next"
FRAMES_PER_SECOND = 1.0
"""Its ``video_fps``."""
_NOISE = "QA_GT_caption_based_noisy"  # stands in VideoInstruct-100K's texts


def conversation_of_llava_next(entry: Mapping, odd: set[str], *, plain: bool = False) -> Conversation:
    """A sample's turns, marks and pictures as LLaVA-NeXT has them.

    Args:
        odd: gets the causes, of :data:`~.causes.ODDITIES`.
        plain: its stage 1: a question with a mark, and a caption.

    Raises:
        SampleError: the sample cannot be used.
    """
    turns, images, videos = turns_of(entry, odd), image_names(entry, odd), video_names(entry, odd)
    if plain:
        return _captioned(turns, images)
    if turns[0][0] == "assistant":
        odd.add(ANSWER_FIRST)
        turns = turns[1:]
    if not any(role == "assistant" for role, _ in turns):
        raise SampleError(NO_ANSWER, "it has no answer to learn")
    if not images and not videos:
        _refuse_null_picture(entry, turns)
        return Conversation(turns, [], [], [])
    turns = [(role, _mark_first(text)) for role, text in turns]
    mark = IMAGE_MARK if images else VIDEO_MARK
    if not images:
        turns = [(role, text.replace(IMAGE_MARK, VIDEO_MARK)) for role, text in turns]
    marked = sum(text.count(mark) for _, text in turns)
    shown = one_for_each_mark(images or videos, marked, mark, odd)
    return Conversation(turns, [mark], shown if images else [], [] if images else shown)


def _captioned(turns: list, images: list) -> Conversation:
    if [role for role, _ in turns] != ["user", "assistant"]:
        raise SampleError(NO_ANSWER, "it is no question with a caption", given=f"{len(turns)} turns")
    (_, question), (_, caption) = turns
    if IMAGE_MARK not in question or not images:
        raise SampleError(LOST_PICTURE, f"its question has no {IMAGE_MARK}, or there is no picture")
    return Conversation([("user", IMAGE_MARK), ("assistant", caption + "\n")], [IMAGE_MARK], images[:1], [])


def _refuse_null_picture(entry: Mapping, turns: list) -> None:
    """A field that is null is a picture that cannot be opened; data without the field is text."""
    if any(name in entry for name in ("image", "images", "video")) and any(IMAGE_MARK in text for _, text in turns):
        raise SampleError(LOST_PICTURE, f"its text marks {IMAGE_MARK} and it names none")


def _mark_first(text: str) -> str:
    if text.count(IMAGE_MARK) == 1 and not text.startswith(IMAGE_MARK):
        text = f"{IMAGE_MARK}\n{text.replace(IMAGE_MARK, '').strip()}".strip()
    return text.replace(_NOISE, "")


def pieces_of_llava_next(conversation: Conversation, *, plain: bool = False) -> list[Piece]:
    """The prompt in pieces, an assistant's turn whole: its header counts for the loss."""
    turns = conversation.turns if plain else written_turns(conversation.turns, CHATML)
    divided = re.compile(f"({'|'.join(conversation.marks) or '(?!)'})")
    return [
        Piece(part, role == "assistant" and part not in conversation.marks, is_mark=part in conversation.marks)
        for role, text in turns
        for part in divided.split(text)
        if part
    ]


def always_counted(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> frozenset[int]:
    """The tokens that count wherever they stand.

    Raises:
        ConfigError: the model's chat format is not ChatML, which this is the rule of.
    """
    if chat_format != CHATML:
        raise ConfigError(
            f"like: {LIKE_LLAVA_NEXT} needs a language model whose chat format is ChatML",
            given=f"turns that end in {chat_format.user.after!r}",
            todo="leave like out of the recipe",
        )
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return frozenset([*newline[:1], *tokenizer.convert_tokens_to_ids([IM_START, IM_END])])
