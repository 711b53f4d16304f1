"""Lines about long work, for those who read a log: what ``nohup``, a container or a pipe keeps of stderr.

::

    stage-1: 120 of 600, loss 2.345, learning rate 0.001, 4.1 s each, 8:12 elapsed, 32:48 left
    compile with TensorRT-RTX: 0:40 elapsed

A thread prints them, so that a step of minutes is told of while it runs. It sleeps between two lines, and ends with
the block. :func:`laco_export.console.progress` chooses between these lines and a bar.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST_AFTER, EVERY = 10.0, 30.0
"""Seconds to the first line, which tells that the work has begun, and between the others: 120 lines an hour."""


class ProgressLines:
    """Says how far the work of a ``with`` block is, a line each so many seconds.

    Args:
        description: what runs.
        total: its parts; None where they are not counted.
        say: prints a line.
        clock: seconds, of which the differences are used.
    """

    def __init__(
        self,
        description: str,
        total: float | None,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._description, self._total, self._say, self._clock = description, total, say, clock
        self._note, self._done = "", 0.0
        self._start = clock()
        self._first: tuple[float, float] | None = None  # the time of the first advance, and what was done then
        self._last = self._start  # the time of the last advance
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._print_lines, name=f"progress of {description}", daemon=True)

    def __enter__(self) -> ProgressLines:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def advance(self, steps: float = 1, description: str | None = None, note: str | None = None) -> None:
        """Count ``steps`` as done; another description or note replaces the one before."""
        with self._lock:
            self._description = description or self._description
            self._note = self._note if note is None else note
            self._done += steps
            if steps or self._first is None:
                self._last = self._clock()
            self._first = self._first or (self._last, self._done)

    def line(self) -> str:
        """The line for this moment.

        The rate is counted from the first advance on: what stood already (the steps of a resumed run) and the start
        before it say nothing of what is to come.
        """
        with self._lock:
            now = self._clock()
            parts = [] if self._total is None else [f"{self._done:.0f} of {self._total:.0f}"]
            parts += [self._note] if self._note else []
            each = self._seconds_each()
            if each is not None:
                parts.append(f"{each:.3g} s each" if each >= 1 else f"{1 / each:.3g} a second")
            parts.append(f"{clock_time(now - self._start)} elapsed")
            if each is not None and self._total is not None:
                left = (self._total - self._done) * each - (now - self._last)
                parts.append(f"{clock_time(max(0.0, left))} left")
            return f"{self._description}: {', '.join(parts)}"

    def _seconds_each(self) -> float | None:
        """Seconds a part, once two advances have been timed."""
        if self._first is None:
            return None
        begun, done_before = self._first
        done, seconds = self._done - done_before, self._last - begun
        return seconds / done if done > 0 and seconds > 0 else None

    def _print_lines(self) -> None:
        seconds = FIRST_AFTER
        while not self._ended.wait(seconds):
            try:
                self._say(self.line())
            except (OSError, ValueError):  # whoever read stderr has gone: the work goes on
                return
            seconds = EVERY


def clock_time(seconds: float) -> str:
    """``0:40``, ``12:05``, ``1:02:05``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
