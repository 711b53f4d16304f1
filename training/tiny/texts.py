"""The words and numbers that are written in pictures, split so that the held-out ones are never trained on.

Training writes random letter strings too: a model that has learnt to read letters reads a word that it never saw.
"""

from __future__ import annotations

from random import Random
from string import ascii_uppercase

from .words import WORDS

_HELD_OUT_EVERY = 8  # one word in eight, and the numbers that leave rest 3 on division by 8
_RANDOM_SHARE = 0.5  # of the training words: letter strings instead of words of the list


def all_words() -> tuple[str, ...]:
    """The list of English words of 3 to 5 letters, in upper case."""
    return tuple(word.upper() for word in WORDS)


def held_out_words() -> tuple[str, ...]:
    """Every eighth word after a fixed shuffle: the same for every seed, so that checkpoints can be compared."""
    words = list(all_words())
    Random("held-out words").shuffle(words)
    return tuple(words[::_HELD_OUT_EVERY])


def training_words() -> tuple[str, ...]:
    """The words that may be written in training pictures."""
    held_out = set(held_out_words())
    return tuple(word for word in all_words() if word not in held_out)


def is_held_out(text: str) -> bool:
    """Whether a word or number is kept for the held-out questions."""
    if text.isdigit():
        return int(text) % _HELD_OUT_EVERY == 3
    return text in _HELD_OUT_WORDS


def random_number(rng: Random, *, held_out: bool) -> str:
    """A number of 2 to 4 digits without leading zero, from the asked side of the split."""
    while True:
        digits = rng.randint(2, 4)
        number = str(rng.randint(10 ** (digits - 1), 10**digits - 1))
        if is_held_out(number) == held_out:
            return number


def random_word(rng: Random, *, held_out: bool) -> str:
    """A word of 3 to 5 letters from the asked side of the split."""
    if held_out:
        return rng.choice(_HELD_OUT_LIST)
    return random_letters(rng) if rng.random() < _RANDOM_SHARE else rng.choice(_TRAINING_LIST)


def random_letters(rng: Random) -> str:
    """Three to five letters that are no held-out word."""
    while True:
        word = "".join(rng.choices(ascii_uppercase, k=rng.randint(3, 5)))
        if not is_held_out(word):
            return word


_HELD_OUT_LIST = held_out_words()
_HELD_OUT_WORDS = frozenset(_HELD_OUT_LIST)
_TRAINING_LIST = training_words()
