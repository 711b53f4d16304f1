"""From pictures, videos and words to what the model reads: pixel values and token ids. No torch.

::

    turns = [prompter.system_turn(None), prompter.user_turn("What is this?", ["cat.png"])]
    prompt = prompter.join(turns)                    # or, for one question: prompter.prepare(["cat.png"], "What …")
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer

from laco_export.bundle import Bundle
from laco_export.conversation import (
    IMAGE_MARK,
    VIDEO_MARK,
    expand_image_tokens,
    frame_marks,
    question_turn,
    user_words,
)
from laco_export.errors import BundleError, UsageError
from laco_export.preprocessing import MAX_PIXELS
from laco_export.token_layouts import TokenLayout

from .bundle_tokenizer import TOKENIZER_NAME, open_tokenizer, token_ids, tokens_with_places
from .context import Omitted, TokenisedTurn, fit_context
from .format_tokens import FormatTokens
from .processor_fields import chat_format_of_bundle
from .turns import PromptTurn, TurnTokeniser
from .visuals import Picture, Video, Visual, VisualPreparer


@dataclass(frozen=True, eq=False)
class Prompt:
    """A question with what came before it, ready for the model.

    Attributes:
        input_ids: int64 ``[T]``, with the image token at every position of a visual embedding.
        image_positions: int64 ``[n]``, those positions.
        visuals: the pictures and frames in reading order; together n tokens.
        preprocess_ms: what reading, resizing, hashing and tokenising took.
        omitted: what was left out so that it fits the context.
        token_grid: of the tower for which a tile's tokens were counted.
    """

    input_ids: np.ndarray
    image_positions: np.ndarray
    visuals: tuple[Visual, ...]
    preprocess_ms: float
    omitted: Omitted = field(default_factory=Omitted)
    token_grid: tuple[int, int] = ()

    @property
    def layouts(self) -> list[TokenLayout]:
        """Where each visual's tile tokens stand in the prompt."""
        return [visual.layout for visual in self.visuals]

    @property
    def pixel_values(self) -> np.ndarray:
        """All tiles, float32 ``[tiles, 3, H, W]``; without any visual ``[0, 3, 0, 0]``."""
        if not self.visuals:
            return np.empty((0, 3, 0, 0), np.float32)
        return np.concatenate([visual.pixel_values for visual in self.visuals])

    @cached_property
    def position_keys(self) -> np.ndarray:
        """int64 ``[T]``: two prompts that agree in their first n keys have the same first n entries in their KV cache.

        A word's key is its token id; an image token's, which all pictures share, is its picture's.
        """
        keys = self.input_ids.copy()
        if self.visuals:
            keys[self.image_positions] = np.concatenate([visual.position_keys for visual in self.visuals])
        return keys


class Prompter:
    """Prepares questions about pictures and videos for one bundle; several threads may share one.

    Args:
        bundle: a verified bundle that has a language model.

    Attributes:
        tokenizer: the bundle's.
        chat_format: how its conversations are written.
        special_ids: ids of its special tokens, and of those that would end or forge a turn.

    Raises:
        BundleError: the bundle has no language model, or its tokenizer cannot be read or has no image token.
    """

    def __init__(self, bundle: Bundle):
        if bundle.manifest.decoder is None:
            raise BundleError(
                f"bundle '{bundle.path}' has no language model: it can encode pictures, but not answer",
                todo="export the checkpoint again without --no-llm",
            )
        self.decoder = bundle.manifest.decoder
        self.preparer = VisualPreparer(bundle)
        self.tokenizer = open_tokenizer(bundle)
        self.chat_format = chat_format_of_bundle(bundle)
        self._marks = FormatTokens(self.tokenizer, self.chat_format, self.decoder, bundle.file(TOKENIZER_NAME))
        self.special_ids = self._marks.special_ids
        self._tokenise = TurnTokeniser(
            self.chat_format,
            lambda text: tokens_with_places(self.tokenizer, text, self.decoder.vocab_size),
            self.decoder.image_token_id,
            self._marks.begin_ids,
        )

    def at_depth(self, bundle: Bundle) -> Prompter:
        """The same for another depth of the bundle, which may leave a picture other tokens.

        Args:
            bundle: :meth:`~laco_export.bundle.Bundle.at` that depth.
        """
        other = copy.copy(self)
        other.preparer = VisualPreparer(bundle)
        return other

    def prepare(
        self,
        pictures: Sequence[Picture],
        question: str,
        *,
        videos: Sequence[Video] = (),
        system: str | None = None,
        max_pixels: int = MAX_PIXELS,
        max_frames: int | None = None,
        room: int = 1,
        on_overflow: str = "error",
        start: float | None = None,
    ) -> Prompt:
        """One question, with nothing before it.

        The arguments and errors are those of :meth:`user_turn`, :meth:`system_turn` and :meth:`join`.
        """
        start = time.perf_counter() if start is None else start
        turn = self.user_turn(question, pictures, videos, max_pixels=max_pixels, max_frames=max_frames)
        return self.join([self.system_turn(system), turn], room=room, on_overflow=on_overflow, start=start)

    def system_turn(self, text: str | None) -> PromptTurn:
        """What stands before the first question: ``text``, or the line that the model was trained with, if any.

        Raises:
            UsageError: the text holds special tokens, or the chat format has no place for a system line.
        """
        text = self.chat_format.default_system if text is None else text
        if text is None:
            return PromptTurn("system")
        self._marks.check_plain(text, "system line")
        around = self.chat_format.system
        if around is None:
            raise UsageError(
                "the model's chat format has no place for a system line", given=text, todo="say it in the question"
            )
        return PromptTurn("system", around.before, around.words(text), around.after)

    def user_turn(
        self,
        question: str,
        pictures: Sequence[Picture] = (),
        videos: Sequence[Video] = (),
        *,
        alone: bool = True,
        max_pixels: int = MAX_PIXELS,
        max_frames: int | None = None,
    ) -> PromptTurn:
        """A question, its pictures and videos read.

        Args:
            question: plain text; it may place ``<image>`` and ``<video>`` marks itself, one a picture or video.
            pictures: paths, or PIL pictures.
            videos: paths, or lists of PIL frames.
            alone: no other turn has pictures. A prompt's only picture is tiled where the model was trained to.
            max_pixels: larger pictures and frames are refused from their header.
            max_frames: taken of each video, uniformly; default: the checkpoint's.

        Raises:
            ImageError: a picture or a video cannot or may not be read.
            UsageError: the question is empty or holds special tokens, or its marks are not its pictures and videos.
        """
        role, text = question_turn(question, len(pictures), len(videos), special=self._marks.forging)
        self._marks.check_plain(question.replace(IMAGE_MARK, "").replace(VIDEO_MARK, ""), "question")
        alone = alone and len(pictures) == 1 and not videos
        images = (self.preparer.picture(p, alone=alone, max_pixels=max_pixels) for p in pictures)
        clips = (self.preparer.video(v, max_frames=max_frames, max_pixels=max_pixels) for v in videos)
        visuals, pieces = [], []
        for piece in re.split(f"({IMAGE_MARK}|{VIDEO_MARK})", user_words(text, self.chat_format)):
            marked = [next(images)] if piece == IMAGE_MARK else next(clips) if piece == VIDEO_MARK else []
            pieces.append(frame_marks(len(marked), self.chat_format) if piece == VIDEO_MARK else piece)
            visuals += marked
        words = "".join(pieces)
        if visuals:
            words = expand_image_tokens(words, [1] * len(visuals), self.chat_format)  # as many as there are, later
        return PromptTurn(role, self.chat_format.user.before, words, self.chat_format.user.after, tuple(visuals))

    def assistant_turn(self, answer: str | Sequence[int]) -> PromptTurn:
        """An earlier answer: its text, or better the tokens that were generated, which are not tokenised anew.

        Special tokens among them are left out, and text that spells one is no special token: an answer cannot forge
        a turn either.
        """
        around, own_ids = self.chat_format.assistant, None
        if not isinstance(answer, str):
            own_ids = [token for token in answer if token not in self.special_ids]
            words = self.decode(own_ids)
        else:
            words = around.words(answer.removeprefix(self.chat_format.answer_start))
            if self._marks.forging.search(words):
                spelled = token_ids(
                    self._plain_tokenizer, self.chat_format.answer_start + words, self.decoder.vocab_size
                )
                own_ids = [token for token in spelled.tolist() if token not in self.special_ids]
        ids = None if own_ids is None else np.asarray(own_ids, np.int64)
        return PromptTurn("assistant", around.before, words, around.after, own_ids=ids)

    def join(
        self,
        turns: Sequence[PromptTurn],
        *,
        room: int = 1,
        on_overflow: str = "error",
        start: float | None = None,
    ) -> Prompt:
        """A conversation as a prompt for the next answer.

        Args:
            turns: the system's first, the question last.
            room: tokens to leave for the answer where the conversation is truncated, though no more than half the
                context; a conversation that is not truncated needs room for one.
            on_overflow: ``error`` or ``truncate``; see :func:`~laco_engines.prompts.context.fit_context`.
            start: ``time.perf_counter()`` from when the preparation is timed; default: now.

        Raises:
            UsageError: it does not fit the context, and may not be truncated.
        """
        start = time.perf_counter() if start is None else start
        context = self.decoder.context_length
        room = 1 if on_overflow == "error" else max(1, min(room, context // 2))
        remaining, header, omitted = self._fitted(turns, context - room, on_overflow)
        input_ids = np.concatenate([*(turn.input_ids for turn in remaining), header])
        visuals = tuple(visual for turn in remaining for visual in turn.visuals)
        positions = np.flatnonzero(input_ids == self.decoder.image_token_id)
        for visual in visuals:
            visual.digest  # noqa: B018 - hashing belongs to the preparation, which several threads may do, and to its time
        spent_ms = 1000 * (time.perf_counter() - start)
        return Prompt(input_ids, positions, visuals, spent_ms, omitted, self.preparer.token_grid)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Tokens to text, special tokens left out."""
        return self.tokenizer.decode([int(token) for token in token_ids], skip_special_tokens=True)

    def special_token_id(self, text: str) -> int | None:
        """The id of the special token that ``text`` spells, if it is one."""
        token_id = self.tokenizer.token_to_id(text)
        return token_id if token_id in self.special_ids else None

    def _fitted(
        self, turns: Sequence[PromptTurn], most: int, on_overflow: str
    ) -> tuple[list[TokenisedTurn], np.ndarray, Omitted]:
        """The tokens of the turns that fit, those of the header before the answer, and what was left out."""
        left_out: list[PromptTurn] = []
        while True:
            spoken, header = self._tokenise(turns)
            remaining, omitted = fit_context(
                spoken,
                image_token_id=self.decoder.image_token_id,
                most=most,
                on_overflow=on_overflow,
                reserved=len(header),
            )
            if not omitted.turns:
                visuals = omitted.visuals + sum(len(turn.visuals) for turn in left_out)
                return remaining, header, Omitted(len(left_out), omitted.tokens, visuals)
            # What remains is another text, whose tokens may differ where turns meet.
            first = 1 if turns[0].role == "system" else 0
            left_out += turns[first : first + omitted.turns]
            turns = [*turns[:first], *turns[first + omitted.turns :]]

    @cached_property
    def _plain_tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())  # the file may be another's by now
        tokenizer.encode_special_tokens = True  # "<|im_end|>" becomes the tokens of its letters
        return tokenizer
