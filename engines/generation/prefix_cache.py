"""The KV caches of earlier prompts, so that what a new prompt begins with alike is not computed again.

::

    past_key_values = cache.take(prompt.position_keys)     # None where nothing is known
    …                                                      # generate() writes the rest into it
    cache.put(answered_keys, past_key_values)

The next turn of a chat begins with all that was said before; another question about the same pictures begins with the
system line and the pictures. Keys tell pictures apart
(:attr:`~laco_engines.prompts.prompter.Prompt.position_keys`), token ids would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

MAX_ENTRIES = 4
"""Conversations that can take turns on one model without computing each other's beginnings again."""

MAX_CACHE_BYTES = 512 << 20
"""Of all entries: a Qwen2.5-0.5B's FP32 cache takes 24 KiB a token, so this holds about 20,000 of them."""

_LEAST_NEW = 1  # a cache holds no logits: the last position is computed again


class PastKeyValues(Protocol):
    """A text runtime's KV cache of a single prompt, as far as it is looked at from outside."""

    @property
    def nbytes(self) -> int:
        """Of the buffers, what is free included."""
        ...

    def get_seq_length(self) -> int:
        """Positions held."""
        ...

    def copy(self, length: int, capacity: int) -> PastKeyValues:
        """An independent one of the first ``length`` positions, with room for ``capacity``."""
        ...


@dataclass(frozen=True, eq=False)
class _Entry:
    keys: np.ndarray  # int64 [positions of the cache]
    past_key_values: PastKeyValues


class PrefixCache:
    """Least recently used KV caches of single prompts; not safe for several threads.

    Args:
        max_entries, max_bytes: of what is kept; the one used last is kept whatever its size.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_CACHE_BYTES):
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: list[_Entry] = []  # the least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, keys: np.ndarray) -> PastKeyValues | None:
        """A KV cache of the longest beginning that is known of a prompt, to be written into; None without one.

        At least one position is left to compute. An entry that the prompt continues is handed out itself; of one
        that it leaves half-way a copy is made, so that the next prompt of its kind finds it too.
        """
        lengths = [min(_common(entry.keys, keys), len(keys) - _LEAST_NEW) for entry in self._entries]
        best = max(range(len(lengths)), key=lengths.__getitem__, default=None)
        if best is None or lengths[best] < 1:
            return None
        entry, length = self._entries.pop(best), lengths[best]
        if length == len(entry.keys):
            return entry.past_key_values
        self._entries.append(entry)
        return entry.past_key_values.copy(length, capacity=len(keys))

    def put(self, keys: np.ndarray, past_key_values: PastKeyValues) -> None:
        """Keep a KV cache; ``keys`` are those of its positions. Entries that it continues are dropped."""
        keys = keys[: past_key_values.get_seq_length()]
        self._entries = [entry for entry in self._entries if _common(entry.keys, keys) < len(entry.keys)]
        self._entries.append(_Entry(keys, past_key_values))
        while len(self._entries) > self._max_entries or (len(self._entries) > 1 and self.nbytes > self._max_bytes):
            del self._entries[0]

    def clear(self) -> None:
        self._entries.clear()

    @property
    def nbytes(self) -> int:
        return sum(entry.past_key_values.nbytes for entry in self._entries)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many first entries two arrays share."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length
