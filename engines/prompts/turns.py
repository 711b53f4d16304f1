"""A conversation's turns as text, and their tokens: those of the whole text, with earlier answers as they were given.

Turns are not tokenised one by one: where no special token stands between them (Vicuna's ``USER:`` and ``ASSISTANT:``),
a token may reach over the joint. The text is cut where an answer begins, since with the text up to there the model was
asked, and where an answer's own tokens end; each stretch is tokenised at once, behind what stands before it
(:mod:`laco_export.tokens_behind`), and its tokens are dealt out to the turns by their places in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate

import numpy as np

from laco_export.chat_format import ChatFormat
from laco_export.tokens_behind import TAIL, tokens_behind

from .context import TokenisedTurn
from .visuals import Visual

_KEPT_STRETCHES, _LONGEST_KEPT = 128, 16_384
"""Stretches whose tokens are kept, since the next turn of a conversation begins with them, and the longest such in
characters: 32 MB at most."""


@dataclass(frozen=True, eq=False)
class PromptTurn:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        before, words, after: its text, with one image token for each visual; all empty where nothing is said.
        visuals: its pictures and frames in reading order.
        own_ids: int64 ``[T]``, the tokens of an earlier answer, in place of those of its words.
    """

    role: str
    before: str = ""
    words: str = ""
    after: str = ""
    visuals: tuple[Visual, ...] = ()
    own_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.before) + len(self.words) + len(self.after)


@dataclass
class _Stretch:
    """Consecutive texts of turns, which are tokenised at once; or an earlier answer's own tokens with its text."""

    turns: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    own_ids: np.ndarray | None = None

    def add(self, turn: int, text: str) -> None:
        self.turns.append(turn)
        self.texts.append(text)


class TurnTokeniser:
    """Tokenises conversations in one chat format; several threads may share one.

    Args:
        encode: a text's token ids with the characters that they begin at, none put around it.
        begin_ids: what the tokenizer puts before a conversation.
    """

    def __init__(
        self,
        chat_format: ChatFormat,
        encode: Callable[[str], Sequence[tuple[int, int]]],
        image_token_id: int,
        begin_ids: Sequence[int] = (),
    ):
        self._format, self._encode = chat_format, encode
        self._image_token_id, self._begin_ids = image_token_id, np.asarray(begin_ids, np.int64)
        self._kept = lru_cache(_KEPT_STRETCHES)(self._tokens_behind)

    def __call__(self, turns: Sequence[PromptTurn]) -> tuple[list[TokenisedTurn], np.ndarray]:
        """The turns' tokens, and those of the header that the model answers behind, int64 ``[T]``.

        Args:
            turns: the system's first, which may say nothing.
        """
        turns = [*self._begun(turns), PromptTurn("assistant", self._format.generation_header)]
        ids: list[list[np.ndarray]] = [[] for _ in turns]
        places: list[list[np.ndarray]] = [[] for _ in turns]  # characters of the turn's text that they begin at
        before = ""
        for stretch in self._stretches(turns):
            text = "".join(stretch.texts)
            if stretch.own_ids is not None:
                ids[stretch.turns[0]].append(stretch.own_ids)
            elif text:
                self._deal_out(stretch, *self._tokens(before, text), ids, places)
            before = (before + text)[-TAIL:]
        ids[0].insert(0, self._begin_ids)
        places[0].insert(0, np.full(len(self._begin_ids), -1))
        *spoken, header = [
            self._tokenised(turn, _joined(own), _joined(begins))
            for turn, own, begins in zip(turns, ids, places, strict=True)
        ]
        return spoken, header.input_ids

    def _begun(self, turns: Sequence[PromptTurn]) -> list[PromptTurn]:
        """The turns with the format's beginning, and the system line in the first question where it belongs there."""
        first, *others = turns
        inside = self._format.system_in_user and first.role == "system" and len(first) > 0
        if inside and others and others[0].role == "user":
            first = replace(first, before=others[0].before + first.before)
            others[0] = replace(others[0], before="")
        return [replace(first, before=self._format.begin + first.before), *others]

    def _stretches(self, turns: Sequence[PromptTurn]) -> list[_Stretch]:
        stretches = [_Stretch()]
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                stretches[-1].add(number, turn.before + turn.words + turn.after)
                continue
            header = self._format.generation_header
            asked = header if turn.before.startswith(header) else turn.before
            stretches[-1].add(number, asked)
            if turn.own_ids is not None:
                stretches += [_Stretch([number], [turn.words], turn.own_ids), _Stretch([number], [turn.after])]
            else:
                stretches.append(_Stretch([number], [turn.before[len(asked) :] + turn.words + turn.after]))
        return stretches

    def _tokens(self, before: str, text: str) -> tuple[np.ndarray, np.ndarray]:
        return self._kept(before, text) if len(text) <= _LONGEST_KEPT else self._tokens_behind(before, text)

    def _tokens_behind(self, before: str, text: str) -> tuple[np.ndarray, np.ndarray]:
        """``text``'s ids and the characters that they begin at, int64 ``[T]`` each."""
        tokens, skipped = tokens_behind(before, text, self._encode)
        ids, places = np.asarray(tokens, np.int64).reshape(-1, 2).T
        return ids, np.maximum.accumulate(places - skipped) if len(places) else places

    @staticmethod
    def _deal_out(stretch: _Stretch, stretch_ids, begins, ids, places) -> None:
        joints = list(accumulate(map(len, stretch.texts), initial=0))
        owners = np.searchsorted(joints[1:-1], begins, side="right")  # a token is that text's in which it begins
        for index, (turn, joint) in enumerate(zip(stretch.turns, joints)):
            ids[turn].append(stretch_ids[owners == index])
            places[turn].append(begins[owners == index] - joint)

    def _tokenised(self, turn: PromptTurn, ids: np.ndarray, places: np.ndarray) -> TokenisedTurn:
        """A turn with as many image tokens for each visual as it has embeddings."""
        counts = np.ones(len(ids), np.int64)
        counts[ids == self._image_token_id] = [len(visual) for visual in turn.visuals]
        header = footer = 0
        if turn.role == "user":
            words_end = len(turn.before) + len(turn.words)
            header, footer = int((places < len(turn.before)).sum()), int((places >= words_end).sum())
        return TokenisedTurn(turn.role, np.repeat(ids, counts), turn.visuals, header, footer)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts])
