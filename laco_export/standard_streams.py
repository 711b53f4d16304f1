"""Standard output and standard error of a command, where either may be closed, full, or no longer read.

What a command says on stderr is for whoever looks: where it cannot be written, it is lost, and the work goes on. What
it writes on stdout is the answer: where that cannot be written, the command says so and fails, and what it has made
stays. A reader of stdout that leaves (``| head``) ends it quietly.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from .errors import LacoError


class OutputError(LacoError):
    """The answer could not be written on standard output."""


class _Stream:
    """A text stream that stands for another; see the module's text for what becomes of a failed write."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._attempt(self._stream.write, text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action, *arguments):
        raise NotImplementedError

    def __getattr__(self, name: str):
        return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet


class _Messages(_Stream):
    """Standard error."""

    def _attempt(self, action, *arguments):
        try:
            return action(*arguments)
        except (OSError, ValueError):  # ValueError: it was closed
            return len(arguments[0]) if arguments else None


class _Answers(_Stream):
    """Standard output."""

    def _attempt(self, action, *arguments):
        try:
            return action(*arguments)
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(self._stream)
            raise OutputError(
                f"standard output cannot be written: {error.strerror}",
                todo="give it a place that takes it; what the command has made beside it stands",
            ) from None


@contextmanager
def standard_streams() -> Iterator[None]:
    """Inside the block both streams are there, and a write that fails is what the module's text says.

    Characters that stdout's encoding does not have are replaced by a question mark.
    """
    _open_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Answers(before[0] or _nowhere()), _Messages(before[1] or _nowhere())
    if hasattr(before[0], "reconfigure"):
        before[0].reconfigure(errors="replace")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _leave_nothing_to_flush(stream)


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Print a JSON document on stdout, at once; what the stream's encoding does not hold is escaped, not replaced."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # an ASCII terminal, or a file's name that is not UTF-8
        text = json.dumps(document, indent=indent)
    print(text, flush=True)


def discard(stream: TextIO) -> None:
    """What ``stream`` still holds, and what is written from now on, goes nowhere."""
    with suppress(OSError, ValueError):
        number, nowhere = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
        stream.flush()


def _leave_nothing_to_flush(stream: TextIO | None) -> None:
    """Python flushes both streams at its end, and turns the exit code into 120 where that fails."""
    if stream is None:
        return
    try:
        stream.flush()
    except ValueError:  # it is closed
        pass
    except OSError:
        discard(stream)


def _open_descriptors() -> None:
    """A file that is opened must not get the number of a standard stream that was closed: libraries write to those."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
