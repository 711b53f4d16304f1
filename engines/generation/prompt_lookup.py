"""Drafts of what comes next, copied from where the same tokens stood before: prompt lookup.

An answer that repeats its prompt (what is written in a picture that was transcribed before, JSON that is changed in one
place) repeats runs of its tokens. So what followed the last few tokens when they stood together before is a good guess
of what follows now. As transformers' ``prompt_lookup_num_tokens`` and vLLM's ``ngram`` speculation: no second model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NGRAMS = (3, 2)
"""Tokens that must be the same, the most first: one token alone has too many places to be a guess."""

LONGEST_MATCH = 12
"""Tokens by which a match is told from a longer one: behind that many, drafts are kept alike."""


@dataclass(frozen=True)
class Draft:
    """Tokens that may come next.

    Attributes:
        token_ids: none where the last tokens never stood together before.
        match: how many tokens before it are the same as before the place that it is copied from.
    """

    token_ids: tuple[int, ...] = ()
    match: int = 0


class NgramIndex:
    """A conversation's tokens, and where each of its n-grams was last followed by another token.

    Args:
        token_ids: of the prompt, earlier answers included.
    """

    def __init__(self, token_ids: Iterable[int] = ()):
        self._tokens: list[int] = []
        self._followed_at: dict[tuple[int, ...], int] = {}
        for token in token_ids:
            self.add(token)

    def __getitem__(self, position: int) -> int:
        return self._tokens[position]

    def add(self, token: int) -> None:
        """The next token."""
        for length in NGRAMS:
            if len(self._tokens) >= length:
                self._followed_at[tuple(self._tokens[-length:])] = len(self._tokens)
        self._tokens.append(token)

    def draft(self, count: int) -> Draft:
        """``count`` tokens that followed the longest n-gram which stands at the end; none where that is new.

        The latest place counts. Where it is nearer to the end than ``count``, what repeats goes on repeating.
        """
        for length in NGRAMS:
            start = self._followed_at.get(tuple(self._tokens[-length:]))
            if start is not None:
                period = len(self._tokens) - start
                copied = tuple(self._tokens[start + index % period] for index in range(count))
                return Draft(copied, self._match(start, length))
        return Draft()

    def _match(self, start: int, length: int) -> int:
        """How many tokens before ``start`` are those at the end, of which ``length`` are known to be."""
        while length < min(start, LONGEST_MATCH) and self._tokens[start - 1 - length] == self._tokens[-1 - length]:
            length += 1
        return length
