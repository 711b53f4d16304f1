"""The order of a pass: shuffled, and grouped so that what runs together is alike.

::

    all samples ─shuffled─▶ windows of 50 global batches ─sorted by kind, length─▶ global batches ─shuffled─▶ order

After LLaVA's length-grouped sampler (kinds apart, lengths within windows), with two differences. The order is made of
the data, the seed, the pass and the global batch size alone: one process or many, the samples of an optimiser step are
the same. And lengths are read window by window, when the pass comes there, so that a parquet of millions starts at
once; a resumed run reads those of the windows behind it again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .dataset import ConversationDataset

WINDOW = 50
"""Global batches in which lengths are sorted, HF's and LLaVA's number; fewer where the data has fewer than 200."""


class GroupedSampler(torch.utils.data.Sampler):
    """Indices of a pass, whole global batches only: the last samples that fill none are left out.

    Inside a global batch samples are sorted by kind and length, so that the forward passes it is dealt out to are
    alike. The first global batch is the one with the longest sample of its window: what does not fit into memory shows
    at once.

    Args:
        global_batch_size: samples of an optimiser step, over all processes and forward passes.
        seed: of the order.
        group_by: ``length``, or ``none`` for a plain shuffle.
    """

    def __init__(
        self, dataset: ConversationDataset, *, global_batch_size: int, seed: int = 0, group_by: str = "length"
    ):
        self.dataset, self.global_batch_size, self.seed, self.group_by = dataset, global_batch_size, seed, group_by
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset) // self.global_batch_size * self.global_batch_size

    def set_epoch(self, epoch: int) -> None:
        """Which pass the next iteration orders."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = self.dataset.shuffled(np.random.default_rng((self.seed, self.epoch)))[: len(self)]
        size = self._window() * self.global_batch_size
        for number, first in enumerate(range(0, len(order), size)):
            window = order[first : first + size]
            if self.group_by == "length":
                window = self._grouped(window, np.random.default_rng((self.seed, self.epoch, number)), number == 0)
            yield from window.tolist()

    def _window(self) -> int:
        batches = min(WINDOW, len(self) // (4 * self.global_batch_size))
        if (together := self.dataset.read_together) is not None:
            batches = min(batches, together // self.global_batch_size)
        return max(1, batches)

    def _grouped(self, window: np.ndarray, random: np.random.Generator, is_first: bool) -> np.ndarray:
        kinds, lengths = self.dataset.measure(window)
        ranked = np.lexsort((lengths, kinds))  # stable: equal lengths stay shuffled
        batches = ranked.reshape(-1, self.global_batch_size)
        order = random.permutation(len(batches))
        if is_first:
            longest = lengths[batches].max(axis=1)[order].argmax()
            order[[0, longest]] = order[[longest, 0]]
        return window[batches[order].reshape(-1)]
