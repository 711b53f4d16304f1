"""Tokens of a text that stands behind another, where the two are not tokenised at once.

A conversation's text is tokenised at once but where an answer begins and ends: the model wrote its answer behind the
tokens that it was asked with, and the tokens of its answer stay its own. A tokenizer may treat a text's beginning in a
way of its own (Llama's writes a space before it), so what follows is tokenised as it stands, behind the text before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tokenizers import AddedToken

Token = TypeVar("Token")

_LETTER = "a"
TAIL = 64
"""Characters of the text before that count: no tokenizer's pattern looks back as far, no special token is as long."""


def tokens_behind(before: str, text: str, encode: Callable[[str], Sequence[Token]]) -> tuple[Sequence[Token], int]:
    """The tokens of ``text`` behind ``before``: those of both at once less those of ``before``.

    Where a token would stand across the joint, ``text`` is tokenised behind a letter instead, and where even a letter
    joins it, by itself.

    Args:
        before: empty where ``text`` is the conversation's beginning.
        encode: a text's tokens, none put around it.

    Returns:
        the tokens, and how many characters ``encode`` was given before ``text``.
    """
    for context in (before[-TAIL:], _LETTER) if before else ():
        own, both = encode(context), encode(context + text)
        if both[: len(own)] == own:
            return both[len(own) :], len(context)
    return encode(text), 0


def tokens_of_spans(
    spans: Iterable[tuple[str, bool]],
    encode: Callable[[str], Sequence[int]],
    cuts: re.Pattern[str] = re.compile(r"(?!)"),
) -> Iterator[tuple[list[int], bool]]:
    """The tokens of consecutive texts, each with whether they are trained on; those alike are tokenised at once.

    Args:
        spans: as :func:`laco_export.conversation.render_with_mask` gives them.
        cuts: of :func:`cuts_before`, where ``encode`` remembers short pieces, which come again and again.
    """
    before = ""
    for counts, alike in groupby(spans, key=lambda span: span[1]):
        ids: list[int] = []
        for piece in cuts.split("".join(text for text, _ in alike)):
            if piece:
                ids += encode(piece) if cuts.match(piece) else tokens_behind(before, piece, encode)[0]
                before = piece
        yield ids, counts


def cuts_before(added: Iterable[AddedToken]) -> re.Pattern[str]:
    """Where a text may be cut without changing its tokens: before those of a tokenizer's added tokens that are found
    before anything else is done with the text, and take nothing of what stands before them."""
    names = [token.content for token in added if not (token.normalized or token.lstrip or token.single_word)]
    return re.compile(f"(?={'|'.join(map(re.escape, names))})" if names else r"(?!)")
