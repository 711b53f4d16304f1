"""Fitting a conversation into the model's context: refuse it, or leave out its oldest part, never part of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from laco_export.errors import UsageError

from .visuals import Visual

ON_OVERFLOW = ("error", "truncate")


@dataclass(frozen=True)
class TokenisedTurn:
    """One turn of a conversation as the model reads it.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        input_ids: int64 ``[T]``, with the image token at every position of a visual embedding.
        visuals: its pictures and frames in reading order.
        header, footer: how many of its first and last tokens are the chat format's and not its own words.
    """

    role: str
    input_ids: np.ndarray
    visuals: tuple[Visual, ...] = ()
    header: int = 0
    footer: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Omitted:
    """What was left out so that a prompt fits: whole turns, tokens of the remaining question, and visuals of both."""

    turns: int = 0
    tokens: int = 0
    visuals: int = 0

    def __bool__(self) -> bool:
        return bool(self.turns or self.tokens)

    def __str__(self) -> str:
        parts = [f"the {self.turns} oldest turns"] if self.turns else []
        parts += [f"the first {self.tokens} tokens of the question"] if self.tokens else []
        with_them = f" with {self.visuals} picture{'s' * (self.visuals != 1)}" if self.visuals else ""
        return " and ".join(parts) + with_them


def fit_context(
    turns: Sequence[TokenisedTurn], *, image_token_id: int, most: int, on_overflow: str, reserved: int = 0
) -> tuple[list[TokenisedTurn], Omitted]:
    """The turns that a prompt of at most ``most`` tokens can hold.

    Args:
        turns: the system's turn first, the question last.
        on_overflow: ``error``, or ``truncate``: the oldest questions go with their answers, one after another, and if
            the last question alone is too long, it loses its beginning; a picture goes whole.
        reserved: tokens of the prompt that follow the turns.

    Returns:
        the turns, and what was left out.

    Raises:
        UsageError: it does not fit, and may not be or cannot be truncated.
    """
    if on_overflow not in ON_OVERFLOW:
        raise UsageError("--on-overflow is unknown", given=on_overflow, allowed=", ".join(ON_OVERFLOW))
    remaining = list(turns)
    if _length(remaining) + reserved <= most:
        return remaining, Omitted()
    if on_overflow == "error":
        raise _too_long(remaining, reserved, most)
    first = 1 if remaining[0].role == "system" else 0
    left_out = 0
    while _length(remaining) + reserved > most and any(turn.role == "user" for turn in remaining[first:-1]):
        del remaining[first]
        left_out += 1
        while remaining[first].role == "assistant":  # an answer does not stay without its question
            del remaining[first]
            left_out += 1
    visuals = sum(len(turn.visuals) for turn in turns) - sum(len(turn.visuals) for turn in remaining)
    excess = _length(remaining) + reserved - most
    if excess <= 0:
        return remaining, Omitted(left_out, 0, visuals)
    shortened = _without_beginning(remaining[-1], excess, image_token_id)
    if shortened is None:
        raise _too_long(remaining, reserved, most)
    omitted = Omitted(
        left_out, len(remaining[-1]) - len(shortened), visuals + len(remaining[-1].visuals) - len(shortened.visuals)
    )
    return [*remaining[:-1], shortened], omitted


def _without_beginning(turn: TokenisedTurn, excess: int, image_token_id: int) -> TokenisedTurn | None:
    """The turn less the first ``excess`` tokens of its words, or a few more where that would cut through a picture.

    None where nothing of its words would remain.
    """
    words = turn.input_ids[turn.header : len(turn) - turn.footer]
    is_image = words == image_token_id
    ends = np.flatnonzero(is_image)[np.cumsum([len(visual) for visual in turn.visuals], dtype=int) - 1] + 1
    starts = ends - [len(visual) for visual in turn.visuals] if len(ends) else ends
    cut = excess
    inside = np.flatnonzero((starts < cut) & (cut < ends))
    if len(inside):
        cut = int(ends[inside[0]])
    if cut >= len(words):
        return None
    input_ids = np.concatenate([turn.input_ids[: turn.header], turn.input_ids[turn.header + cut :]])
    return replace(turn, input_ids=input_ids, visuals=turn.visuals[int((ends <= cut).sum()) :])


def _length(turns: Sequence[TokenisedTurn]) -> int:
    return sum(map(len, turns))


def _too_long(turns: Sequence[TokenisedTurn], reserved: int, most: int) -> UsageError:
    visuals = [visual for turn in turns for visual in turn.visuals]
    return UsageError(
        "the prompt is longer than the model's context",
        given=f"{_length(turns) + reserved} tokens, {sum(map(len, visuals))} of them for {len(visuals)} pictures",
        allowed=f"at most {most}, so that room for the answer is left",
        todo="ask less, show fewer pictures or frames, or leave out the oldest with --on-overflow truncate",
    )
