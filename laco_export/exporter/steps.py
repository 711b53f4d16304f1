"""The export's steps as the user sees them: a progress line while one runs, its seconds when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..console import console, progress


class Steps:
    """Runs steps and keeps how long each took.

    Attributes:
        seconds: step → seconds, in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[..., None]]:
        """Show ``name`` while the block runs; yields the progress bar's ``advance``."""
        start = time.perf_counter()
        if console().is_terminal:  # the progress line stays there with its seconds
            with progress(name) as advance:
                yield advance
        else:
            yield lambda steps=1, description=None: None
        self.seconds[name] = round(time.perf_counter() - start, 3)
        if not console().is_terminal:
            console().print(f"{name}: {self.seconds[name]:.1f} s")
