"""The words and numbers that are written in pictures, split so that the held-out ones are never trained on.

Training writes random letter strings too: a model that has learnt to read letters reads a word that it never saw.
"""

from __future__ import annotations

from random import Random
from string import ascii_uppercase

from .words import WORDS

LETTERS = DIGITS = 3  # of a word, of a number
_HELD_OUT_EVERY = 5  # one word in five and one number in five
_RANDOM_SHARE = 0.7  # of the training words: letter strings instead of words of the list


def held_out_words() -> tuple[str, ...]:
    """Every fifth word after a fixed shuffle: the same for every seed, so that checkpoints can be compared."""
    words = list(WORDS)
    Random("held-out words").shuffle(words)
    return tuple(words[::_HELD_OUT_EVERY])


def held_out_numbers() -> tuple[str, ...]:
    """Every fifth number of three digits after a fixed shuffle: none of their digits is kept from training."""
    numbers = [str(number) for number in range(10 ** (DIGITS - 1), 10**DIGITS)]
    Random("held-out numbers").shuffle(numbers)
    return tuple(numbers[::_HELD_OUT_EVERY])


_HELD_OUT_LIST = held_out_words()
_HELD_OUT_NUMBERS = frozenset(held_out_numbers())
_HELD_OUT_WORDS = frozenset(_HELD_OUT_LIST)
_TRAINING_LIST = tuple(word for word in WORDS if word not in _HELD_OUT_WORDS)


def is_held_out(text: str) -> bool:
    """Whether a word or number is kept for the held-out questions."""
    if text.isdigit():
        return text in _HELD_OUT_NUMBERS
    return text in _HELD_OUT_WORDS


def random_text(rng: Random, *, held_out: bool) -> str:
    """A word or, less often, a number, from the asked side of the split."""
    return random_number(rng, held_out=held_out) if rng.random() < 0.4 else random_word(rng, held_out=held_out)


def random_number(rng: Random, *, held_out: bool) -> str:
    """A number of three digits without leading zero."""
    while True:
        number = str(rng.randrange(10 ** (DIGITS - 1), 10**DIGITS))
        if is_held_out(number) == held_out:
            return number


def random_word(rng: Random, *, held_out: bool) -> str:
    """A word of three letters; in training often just three letters."""
    if held_out:
        return rng.choice(_HELD_OUT_LIST)
    return random_letters(rng) if rng.random() < _RANDOM_SHARE else rng.choice(_TRAINING_LIST)


def random_letters(rng: Random) -> str:
    """Three letters that are no held-out word."""
    while True:
        word = "".join(rng.choices(ascii_uppercase, k=LETTERS))
        if not is_held_out(word):
            return word
