"""The steps of an export or a calibration as the user sees them: progress while one runs, then its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..console import console, progress


class Steps:
    """Runs steps and keeps how long each took.

    Attributes:
        seconds: step → seconds, in order; those of a step that runs again are added.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """Show ``name`` while the block runs; yields the ``advance`` of its progress bar of ``total`` parts."""
        start = time.perf_counter()
        if console().is_terminal:  # the progress line stays there with its seconds
            with progress(name, total) as advance:
                yield advance
        else:
            yield lambda steps=1, description=None: None
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0) + spent, 3)
        if not console().is_terminal:
            console().print(f"{name}: {spent:.1f} s")
