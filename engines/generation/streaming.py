"""Text while it is generated, when each token came, and where a stop string ends it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tokenizers import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, perhaps because the last of them is still to come."""


class TextPieces:
    """The text of tokens as they come, in pieces that end in whole characters.

    The tokens of the last piece are decoded again before those that came behind it: SentencePiece takes the space off
    the first word of what it decodes. ``tokenizers``' own ``DecodeStream`` raises where a newline's byte (``<0x0A>``)
    stands before bytes that are no character, because a decoder of bytes then takes all of them for broken. Here what
    was shown stays, and the text goes on behind as many characters.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._last: list[int] = []  # tokens of the last piece
        self._new: list[int] = []

    def add(self, token: int) -> str:
        """The text that is complete with ``token``; often empty."""
        self._new.append(token)
        text, shown = self._decode(self._last + self._new), len(self._decode(self._last))
        if len(text) <= shown or text.endswith(_UNFINISHED):
            return ""
        self._last, self._new = self._new, []
        return text[shown:]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)


class RowText:
    """One sequence's new tokens and their text.

    Attributes:
        token_ids: the new tokens, up to the one that ended the answer.
        times: ``time.perf_counter()`` at each of them.
        stopped_by: the stop string that ended it.
        finish: why it ended: ``stop``, ``length``, or None while it goes on.
        passes: of the decoder behind the first token, where they may have read several positions each; else None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        end_tokens: Collection[int],
        limit: int,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ):
        self.token_ids: list[int] = []
        self.times: list[float] = []
        self.stopped_by: str | None = None
        self.finish: str | None = None
        self.passes: int | None = None
        self._tokenizer = tokenizer
        self.end_tokens, self.limit, self._stop = frozenset(end_tokens), limit, stop
        self._on_text = on_text
        self._pieces = TextPieces(tokenizer) if stop or on_text else None
        self._held = ""  # complete text that may turn out to begin a stop string

    def add(self, token: int, when: float) -> None:
        """Take the next token; ignored once the answer has ended (a batch goes on until its last answer ends)."""
        if self.finish:
            return
        self.token_ids.append(token)
        self.times.append(when)
        text = self._pieces.add(token) if self._pieces else None
        if text:
            self._take(text)
        if token in self.end_tokens or self.stopped_by:
            self._end("stop")
        elif len(self.token_ids) >= self.limit:
            self._end("length")

    def close(self) -> None:
        """Nothing more will come; show what was held back."""
        if self._held and not self.stopped_by:
            self._show(self._held)
        self._held = ""

    def text(self) -> str:
        """The whole answer, up to the stop string."""
        # Bytes that never became a character are only in the whole (as U+FFFD), not in the stream.
        whole = self._tokenizer.decode(self.token_ids, skip_special_tokens=True)
        return whole.partition(self.stopped_by)[0] if self.stopped_by else whole

    def _take(self, text: str) -> None:
        text = self._held + text
        matches = [(position, stop) for stop in self._stop if (position := text.find(stop)) >= 0]
        if matches:
            position, self.stopped_by = min(matches, key=lambda pair: pair[0])
            self._held = ""
            self._show(text[:position])
            return
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        self._show(text[: len(text) - held])

    def _show(self, text: str) -> None:
        if text and self._on_text:
            self._on_text(text)

    def _end(self, finish: str) -> None:
        self.finish = finish
        self.close()


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
