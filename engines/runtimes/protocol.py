"""What every vision runtime offers, and what it may refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from laco_export.errors import LacoError, UsageError


class RuntimeMissingError(LacoError):
    """A runtime cannot be used on this machine: its package, device or driver is not there, or it failed to start."""


class VisionRuntime(Protocol):
    """A loaded vision tower.

    Attributes:
        name: the runtime and where it computes, for people: ``onnxruntime 1.31.1 CPU``.
        precision: of the graphs that it runs: the bundle's, or its fallback's where that was faster on this device.
        on_cpu: it computes on the CPU.
        batch_sizes: static batch sizes that it has loaded or can load, ascending.
        passed_over: why each runtime that would have been preferred was not taken, a sentence each.
    """

    name: str
    precision: str
    on_cpu: bool
    batch_sizes: list[int]
    passed_over: tuple[str, ...]

    def prepare(self, num_images: int) -> None:
        """Load what ``num_images`` pictures will need. :meth:`encode` does it too; called first, it is not timed."""
        ...

    def encode(self, pixel_values: np.ndarray) -> np.ndarray:
        """Pictures, float32 ``[B, 3, H, W]`` with any B, to visual embeddings, float32 ``[B, tokens, D]``."""
        ...


def check_pictures(pixel_values: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise :class:`UsageError` unless ``pixel_values`` is ``[B, *expected]`` with at least one picture."""
    if pixel_values.ndim != 4 or pixel_values.shape[1:] != tuple(expected) or not len(pixel_values):
        raise UsageError(
            "the pictures do not have the vision graph's shape",
            given=list(pixel_values.shape),
            allowed=f"[B, {', '.join(map(str, expected))}] with B at least 1",
        )


def encode_in_batches(
    run: Callable[[int, np.ndarray], np.ndarray], batch_sizes: Sequence[int], pixel_values: np.ndarray
) -> np.ndarray:
    """Serve any number of pictures with graphs of static batch sizes.

    Args:
        run: ``run(batch, pixel_values [batch, 3, H, W])`` -> ``[batch, tokens, D]``.
        batch_sizes: the batch sizes that there is a graph for.
        pixel_values: float32 ``[B, 3, H, W]``, B at least 1.

    The largest graph that is filled goes first; what no graph fits is padded with zeros, whose output is dropped.
    """
    features, start = [], 0
    for size in split_batch(len(pixel_values), batch_sizes):
        chunk = pixel_values[start : start + size]
        used = len(chunk)
        if used < size:
            chunk = np.concatenate([chunk, np.zeros((size - used, *chunk.shape[1:]), chunk.dtype)])
        features.append(run(size, chunk)[:used])
        start += used
    return np.concatenate(features)


def split_batch(num_images: int, batch_sizes: Sequence[int]) -> list[int]:
    """The graphs' batch sizes to run, in order: the largest that is filled, else the smallest (to be padded)."""
    sizes = []
    while num_images > 0:
        sizes.append(max((size for size in batch_sizes if size <= num_images), default=min(batch_sizes)))
        num_images -= sizes[-1]
    return sizes
