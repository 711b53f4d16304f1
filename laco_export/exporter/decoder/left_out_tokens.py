"""What a language model with a reduced vocabulary can no longer say but byte by byte, script by script.

A token's script is the first word of its first letter's Unicode name: ``LATIN SMALL LETTER A`` is Latin. Tokens without
a letter are signs; those that are part of a character, a few bytes of it, are counted apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_PARTS, _SIGNS = "parts of characters", "digits and signs"
_AS_SPELLED = ("CJK",)  # no word to begin with a capital and go on in small letters

_EXAMPLES = 2
_LONGEST_EXAMPLE = 16
_DECODED = 4096  # tokens at once


@dataclass(frozen=True)
class LeftOut:
    """The tokens of one script that have no row.

    Attributes:
        tokens: so many of ``of``, which the tokenizer has.
        examples: some of the first, which are the most common ones of a tokenizer that was trained by merges.
    """

    script: str
    tokens: int
    of: int
    examples: tuple[str, ...]


def left_out_by_script(tokenizer: Tokenizer, token_ids: np.ndarray, vocab_size: int) -> list[LeftOut]:
    """Scripts with tokens that have no row, those that lose most first.

    Args:
        token_ids: int64 ``[K]``, ascending: those that have one.
        vocab_size: rows of the whole head.
    """
    has_row = np.zeros(vocab_size, bool)
    has_row[token_ids] = True
    ids = sorted(index for index in tokenizer.get_vocab(with_added_tokens=False).values() if index < vocab_size)
    totals: dict[str, int] = {}
    lost: dict[str, list[int]] = {}
    examples: dict[str, list[str]] = {}
    for index, text in _texts(tokenizer, ids):
        script = script_of(text)
        totals[script] = totals.get(script, 0) + 1
        if has_row[index]:
            continue
        lost.setdefault(script, []).append(index)
        shown = examples.setdefault(script, [])
        word = text.strip()
        if len(shown) < _EXAMPLES and word.isprintable() and 0 < len(word) <= _LONGEST_EXAMPLE and script != _PARTS:
            shown.extend([word] * (word not in shown))
    records = [LeftOut(script, len(some), totals[script], tuple(examples[script])) for script, some in lost.items()]
    return sorted(records, key=lambda record: (-record.tokens, record.script))


def script_of(text: str) -> str:
    """A token's script, by its first letter."""
    if _UNFINISHED in text:
        return _PARTS
    letter = next((character for character in text if character.isalpha()), "")
    word = unicodedata.name(letter, "").split(" ")[0] if letter else ""
    return (word if word in _AS_SPELLED else word.capitalize()) or _SIGNS


def _texts(tokenizer: Tokenizer, ids: list[int]) -> Iterable[tuple[int, str]]:
    for start in range(0, len(ids), _DECODED):
        some = ids[start : start + _DECODED]
        yield from zip(some, tokenizer.decode_batch([[index] for index in some], skip_special_tokens=False))
