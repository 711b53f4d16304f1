"""The KV caches of earlier prompts, so that what a new prompt begins with alike is not computed again.

::

    cache.put(prompt.position_keys, past_key_values)              # after an answer
    past_key_values, length = cache.longest(prompt.position_keys)  # before the next

The next turn of a chat begins with all that was said before; another question about the same pictures begins with the
system line and the pictures. Keys tell pictures apart (:attr:`~laco_engines.prompt.Prompt.position_keys`), token ids
would not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_ENTRIES = 4
"""Conversations that can take turns on one model without computing each other's beginnings again."""

MAX_BYTES = 512 << 20
"""Of all entries: a Qwen2.5-0.5B's FP32 cache takes 24 KiB a token, so this holds about 20,000 of them."""

_LEAST_NEW = 2  # generate() tells its first step from the later ones by it being longer than one token


@dataclass(frozen=True, eq=False)
class _Entry:
    keys: np.ndarray
    past_key_values: tuple
    bytes: int


class PrefixCache:
    """Least recently used KV caches of single prompts; not safe for several threads.

    Args:
        max_entries, max_bytes: of what is kept; the one used last is kept whatever its size.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES):
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: list[_Entry] = []  # the least recently used first

    def longest(self, keys: np.ndarray) -> tuple[tuple | None, int]:
        """The KV cache of the longest beginning that is known of a prompt, and its length; ``(None, 0)`` without one.

        At least two positions are left to compute.
        """
        lengths = [min(_common(entry.keys, keys), len(keys) - _LEAST_NEW) for entry in self._entries]
        best = max(range(len(lengths)), key=lengths.__getitem__, default=None)
        if best is None or lengths[best] < 1:
            return None, 0
        entry = self._entries.pop(best)
        self._entries.append(entry)
        return crop(entry.past_key_values, lengths[best]), lengths[best]

    def put(self, keys: np.ndarray, past_key_values: tuple) -> None:
        """Keep a KV cache; ``keys`` are those of its positions. Entries that it continues are dropped."""
        keys = keys[: cache_length(past_key_values)]
        self._entries = [entry for entry in self._entries if _common(entry.keys, keys) < len(entry.keys)]
        self._entries.append(_Entry(keys, past_key_values, cache_bytes(past_key_values)))
        while len(self._entries) > self._max_entries or (
            len(self._entries) > 1 and sum(entry.bytes for entry in self._entries) > self._max_bytes
        ):
            del self._entries[0]

    def clear(self) -> None:
        self._entries.clear()


def crop(past_key_values: tuple, length: int) -> tuple:
    """The first ``length`` positions of a KV cache: ``((key, value), …)`` by layer, each ``[B, heads, P, d]``."""
    if cache_length(past_key_values) == length:
        return past_key_values
    return tuple(tuple(tensor[:, :, :length] for tensor in layer) for layer in past_key_values)


def cache_length(past_key_values: tuple) -> int:
    """Positions in a KV cache."""
    return past_key_values[0][0].shape[2]


def cache_bytes(past_key_values: tuple) -> int:
    return sum(tensor.numel() * tensor.element_size() for layer in past_key_values for tensor in layer)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many first entries two arrays share."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length
