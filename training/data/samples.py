"""One sample as the model's inputs, with the labels of exactly the tokens that count.

Pictures are placed, tiled and counted by the checkpoint's own processor (``LacoProcessor.place``, ``.tiles``), the one
that inference uses. So is the text, in the checkpoint's chat format: it is tokenised at once but where an answer begins
and ends, so that the tokens before an answer are those of the prompt that it will answer. Labels are the tokens of the
answers and of what closes each (``<|im_end|>``). In the plain form (stage 1) there are no turns: the picture, a
newline, and the caption, which alone counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from laco_export.conversation import IMAGE_MARK, expand_image_tokens, forging_tokens, special_pattern
from laco_export.errors import LacoError
from laco_export.tokens_behind import cuts_before, tokens_of_spans

from .causes import IMAGE_TOKEN, SPECIAL_TOKEN_IN_TEXT, TOO_LONG, UNREADABLE_PICTURE, UNREADABLE_VIDEO
from .errors import SampleError
from .llava_next import (
    FRAMES_PER_SECOND,
    LIKE_LLAVA_NEXT,
    always_counted,
    conversation_of_llava_next,
    pieces_of_llava_next,
)
from .mending import Conversation, Piece, pieces_of, read_conversation
from .pictures import Pictures

if TYPE_CHECKING:
    from laco_export.models.processing import LacoProcessor, PlacedPrompt

IGNORED = -100  # PyTorch's cross entropy takes no loss at these labels
_CACHED_TEXTS, _CACHED_LENGTH = 65_536, 120
"""Short texts (questions, turn markers) come again and again; so many of at most that many characters are kept as
tokens: some 30 MB a process."""


class TokenRun(NamedTuple):
    """Consecutive tokens that are alike: of one text, or of one picture."""

    ids: Sequence[int]
    counts: bool
    picture: int | None = None


class SampleEncoder:
    """Samples to tensors.

    Args:
        processor: the checkpoint's; its ``tiling`` says whether a single picture is tiled.
        plain: stage 1's form, see the module.
        max_length: tokens of a sample at most; see :func:`cut`.
        tiled: False keeps a single picture one tile.
        max_frames: frames taken of a video; None takes the processor's.
        like: ``llava-next`` prepares samples as LLaVA-NeXT does (:mod:`.llava_next`).

    Raises:
        ConfigError: ``like`` does not go with the model's chat format.
    """

    def __init__(
        self,
        processor: LacoProcessor,
        *,
        plain: bool = False,
        max_length: int = 32768,
        tiled: bool = True,
        max_frames: int | None = None,
        like: str | None = None,
    ):
        self.processor, self.plain, self.max_length = processor, plain, max_length
        self.tiled, self.max_frames = tiled, max_frames or processor.max_frames
        self.tokenizer, self.like = processor.tokenizer, like
        self._always_counted = frozenset()
        if like == LIKE_LLAVA_NEXT and not plain:
            self._always_counted = always_counted(self.tokenizer, processor.chat_format)
        self._cuts = cuts_before(self.tokenizer.added_tokens_decoder.values())
        added, end_id = self.tokenizer.added_tokens_decoder, self.tokenizer.eos_token_id
        self._forging = special_pattern(forging_tokens(added, processor.chat_format, {end_id}))

    @cached_property
    def _cached(self) -> Callable[[str], list[int]]:
        return lru_cache(maxsize=_CACHED_TEXTS)(self._tokenize)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_cached"}  # it cannot be pickled

    def __call__(
        self, entry: Mapping, pictures: Pictures, odd: set[str] | None = None
    ) -> tuple[dict[str, torch.Tensor], bool]:
        """A sample's tensors, and whether it was cut to ``max_length``.

        Args:
            odd: gets what was mended about the sample, of :data:`~.causes.ODDITIES`.

        Returns:
            ``input_ids``, ``labels`` int64 ``[T]`` and, with pictures, ``pixel_values`` float32 ``[tiles, 3, H, W]``
            and ``image_sizes`` int64 ``[num_images, 2]``.

        Raises:
            LacoError: the sample cannot be used; the message says why.
        """
        odd = set() if odd is None else odd
        conversation, pieces = self._read(entry, odd)
        self._look_for_special_tokens(conversation, odd)
        with _failing_as(UNREADABLE_PICTURE):
            images = [pictures.picture(name) for name in conversation.images]
        rate = FRAMES_PER_SECOND if self.like == LIKE_LLAVA_NEXT else None
        with _failing_as(UNREADABLE_VIDEO):
            videos = [pictures.video(name, self.max_frames, rate) for name in conversation.videos]
        placed = self.processor.place(
            [piece.text if piece.is_mark else "" for piece in pieces],  # what only looks like a mark is kept from it
            images,
            videos,
            tiled=self.tiled and not self.plain,
            max_frames=self.max_frames,
        )
        whole = self._runs(pieces, placed)
        runs = cut(whole, self.max_length)
        shown = [placed.pictures[run.picture] for run in runs if run.picture is not None]
        sample = {
            "input_ids": torch.tensor([token for run in runs for token in run.ids]),
            "labels": torch.tensor([label for run in runs for label in self._labels_of(run)]),
        }
        if shown:
            tiles = [self.processor.tiles(picture, size) for picture, size in shown]
            sample["pixel_values"] = torch.from_numpy(np.concatenate(tiles))  # [tiles, 3, H, W]
            sample["image_sizes"] = torch.tensor([size for _, size in shown])  # [num_images, 2]
        return sample, sum(len(run.ids) for run in runs) < sum(len(run.ids) for run in whole)

    def _read(self, entry: Mapping, odd: set[str]) -> tuple[Conversation, list[Piece]]:
        """The sample as it is trained on, and its prompt in pieces."""
        if self.like == LIKE_LLAVA_NEXT:
            conversation = conversation_of_llava_next(entry, odd, plain=self.plain)
            return conversation, pieces_of_llava_next(conversation, plain=self.plain)
        conversation = read_conversation(entry, odd, plain=self.plain)
        return conversation, pieces_of(conversation, plain=self.plain, chat_format=self.processor.chat_format)

    def _labels_of(self, run: TokenRun) -> list[int]:
        if run.counts:
            return list(run.ids)
        return [token if token in self._always_counted else IGNORED for token in run.ids]

    def _runs(self, pieces: Sequence[Piece], placed: PlacedPrompt) -> list[TokenRun]:
        chat_format, image_token_id = self.processor.chat_format, self.processor.image_token_id
        spans = []
        for piece, marks in zip(pieces, placed.pieces, strict=True):
            text = piece.text
            if piece.is_mark:  # a video's mark has become one for each frame
                text = expand_image_tokens(marks, [1] * marks.count(IMAGE_MARK), chat_format)
            spans.append((text, piece.counts))
        runs, picture = list(self._begin()), 0
        for ids, counts in tokens_of_spans(spans, self._encode, self._cuts):
            start = 0
            for place in [index for index, token in enumerate(ids) if token == image_token_id]:
                runs.append(TokenRun(ids[start:place], counts))
                runs.append(TokenRun([image_token_id] * placed.tokens[picture], False, picture))
                start, picture = place + 1, picture + 1
            runs.append(TokenRun(ids[start:], counts))
        return [run for run in runs if run.ids]

    def _begin(self) -> Iterator[TokenRun]:
        """What the tokenizer itself puts before a text, and no template writes."""
        if token := self.processor.chat_format.begin_token:
            yield TokenRun([self.tokenizer.convert_tokens_to_ids(token)], False)

    def _encode(self, text: str) -> list[int]:
        return self._cached(text) if len(text) <= _CACHED_LENGTH else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _look_for_special_tokens(self, conversation: Conversation, odd: set[str]) -> None:
        """One in a text is odd; one that stands for a picture's embeddings has none, and breaks the sample."""
        marks, image_token = special_pattern(conversation.marks), self.processor.image_token
        for role, text in conversation.turns:
            words = marks.sub("\0", text) if role == "user" or self.like == LIKE_LLAVA_NEXT else text
            if image_token in words:
                raise SampleError(IMAGE_TOKEN, f"its text holds {image_token}, which stands for a picture")
            if self._forging.search(words):
                odd.add(SPECIAL_TOKEN_IN_TEXT)

    def estimated_tokens(self, pictures: np.ndarray, text_lengths: np.ndarray) -> np.ndarray:
        """About how many tokens samples have; opens no picture.

        A tiled picture's tokens depend on its size; here it is taken for one of 2 x 2 tiles.

        Args:
            pictures: as :func:`~.conversations.pictures_of` counts them.
            text_lengths: bytes of the conversations.
        """
        single, tile, frame = self._tokens_of_a_picture
        shown = np.where(pictures < 0, -pictures * self.max_frames * frame, pictures * tile)
        shown = np.where(pictures == 1, single, shown)
        return np.minimum(self.max_length, shown + (text_lengths * self._tokens_per_byte)).astype(np.int64)

    @property
    def _tokens_of_a_picture(self) -> tuple[int, int, int]:
        """Tokens of a picture that stands alone, of one among several, and of a frame."""
        from laco_export.layout_rules import VIDEO_FRAME, layout_rules

        side = 2 * self.processor.tiling["tile"] if self.processor.tiling else 0
        rules, tiles = layout_rules(self.processor.token_layout), bool(side) and self.tiled and not self.plain
        alone, beside = (rules.picture_size(side, side, alone=alone, tiles=tiles) for alone in (True, False))
        return tuple(len(plan) for plan in self.processor.token_layouts([alone, beside, VIDEO_FRAME]))

    @property
    def _tokens_per_byte(self) -> float:
        return len(self._cached(_TYPICAL)) / len(_TYPICAL)


_TYPICAL = "The picture shows a table with three rows; the second one lists 42 items, more than both of the others."


@contextmanager
def _failing_as(cause: str) -> Iterator[None]:
    """What a picture's or a video's reader raises, as a sample that is broken for that cause."""
    try:
        yield
    except LacoError as error:
        raise SampleError(cause, error.failed, given=error.given, allowed=error.allowed, todo=error.todo) from error
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise SampleError(cause, f"{type(error).__name__}: {error}") from error


def cut(runs: Sequence[TokenRun], max_length: int) -> list[TokenRun]:
    """The longest beginning of at most ``max_length`` tokens that has no part of a picture.

    A text may be cut anywhere; where a picture does not fit any more, the sample ends before it.

    Raises:
        SampleError: nothing that counts is left.
    """
    beginning, room = [], max_length
    for run in runs:
        if len(run.ids) > room:
            if run.picture is None and room:
                beginning.append(run._replace(ids=run.ids[:room]))
            break
        beginning.append(run)
        room -= len(run.ids)
    if not any(run.counts and run.ids for run in beginning):
        shown = sum(len(run.ids) for run in runs if run.picture is not None)
        raise SampleError(
            TOO_LONG,
            "no answer fits into max_length",
            given=f"{sum(len(run.ids) for run in runs)} tokens, {shown} of them of pictures",
            allowed=f"max_length {max_length}",
        )
    return beginning
