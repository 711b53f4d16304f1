"""What a choice must keep: time, memory, answers. Which quantity the time is of, and by how much a figure misses."""

from __future__ import annotations

from dataclasses import dataclass

from laco_export.errors import UsageError

from .figures import Figure, total

ENCODE, FIRST_TOKEN, ANSWER = "encode", "first-token", "answer"
QUANTITIES = (FIRST_TOKEN, ENCODE, ANSWER)
DEFAULT_ANSWER_TOKENS = 32
"""Of an answer whose length was not given: what ``laco-engine bench`` measures too."""


@dataclass(frozen=True)
class TextFigures:
    """The language model's part of an answer.

    Attributes:
        preprocess: milliseconds of reading and resizing the pictures and tokenising.
        prefill: milliseconds of the pass over the prompt.
        token: milliseconds of each token behind the first.
    """

    preprocess: Figure
    prefill: Figure
    token: Figure


@dataclass(frozen=True)
class Quantity:
    """What the time is of.

    Attributes:
        kind: one of :data:`QUANTITIES`: the vision tower on all pictures of a question, until the first token, or until
            the last.
        tokens: of an answer.
    """

    kind: str = FIRST_TOKEN
    tokens: int = DEFAULT_ANSWER_TOKENS

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """``first-token``, ``encode``, ``answer`` or ``answer:64``.

        Raises:
            UsageError: anything else.
        """
        kind, colon, tokens = text.partition(":")
        if kind in QUANTITIES and not colon:
            return cls(kind)
        if kind == ANSWER and tokens.isdecimal() and int(tokens) > 0:
            return cls(kind, int(tokens))
        raise UsageError(
            "--of names no quantity",
            given=text,
            allowed="first-token, encode, answer, or answer:N with N tokens",
        )

    def __str__(self) -> str:
        return f"an answer of {self.tokens} tokens" if self.kind == ANSWER else _TITLES[self.kind]

    @property
    def needs_text(self) -> bool:
        """Whether the language model takes part."""
        return self.kind != ENCODE

    def of(self, encode: Figure, text: TextFigures | None) -> Figure:
        """Milliseconds of it.

        Args:
            encode: of all pictures of a question.
            text: None for ``encode``.
        """
        if not self.needs_text:
            return encode
        parts = [text.preprocess, encode, text.prefill]
        if self.kind == ANSWER and self.tokens > 1:
            parts.append(text.token.scaled(self.tokens - 1))
        return total(parts)


_TITLES = {FIRST_TOKEN: "the first token", ENCODE: "encoding"}


@dataclass(frozen=True)
class Limits:
    """What may be taken at most; None does not limit.

    Attributes:
        time_ms: of the quantity, the median.
        memory_bytes: of the process at its peak.
        drop: points of answers lost beside the reference.
    """

    time_ms: float | None = None
    memory_bytes: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Miss:
    """A limit that a candidate does not keep.

    Attributes:
        limit: the option's name, ``--budget``.
        allowed, least: the limit, and the least that the candidate takes as far as that is known.
        figure: what the candidate takes.
    """

    limit: str
    allowed: float
    least: float
    figure: Figure

    @property
    def times(self) -> float:
        """What it takes, or seems to, over what is allowed: to compare how far candidates are off."""
        return self.figure.value / self.allowed if self.allowed else float("inf")

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {"limit": self.limit, "allowed": self.allowed, "over_by": self.least - self.allowed} | {
            "source": self.figure.source
        }


def misses(limits: Limits, time: Figure, memory: Figure | None, drop: Figure | None) -> list[Miss]:
    """The limits that a candidate certainly does not keep, the worst first.

    What was measured or predicted is held to its value, what is only bounded to its lower end.
    """
    held = (
        ("--budget", limits.time_ms, time),
        ("--memory", limits.memory_bytes, memory),
        ("--max-drop", limits.drop, drop),
    )
    missed = [
        Miss(name, allowed, least(figure), figure)
        for name, allowed, figure in held
        if allowed is not None and figure is not None and least(figure) > allowed
    ]
    return sorted(missed, key=lambda miss: miss.times, reverse=True)


def least(figure: Figure) -> float:
    """What a figure is at least: its value where that is known, else its lower end."""
    return figure.value if figure.is_known else figure.low


def most(figure: Figure) -> float:
    """What a figure is at most, likewise."""
    return figure.value if figure.is_known else figure.high
