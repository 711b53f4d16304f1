"""Words and names from outside as UTF-8, which is what tokenizers, ONNX Runtime and our files take.

Python hands over bytes that its locale does not know as lone surrogates (PEP 383). Under the C locale with UTF-8 mode
off these are all umlauts: a command starts again in UTF-8 mode then. What is left is not UTF-8 by itself, and is
refused where it is a text, or a path that a library other than Python opens. Pictures are opened by Python alone and
may have any name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_BYTE_ORDER_MARK = "\ufeff"


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: it holds no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_argument(text: str) -> str:
    """An argparse type: a text for a model."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8 text")
    return text


def path_argument(text: str) -> Path:
    """An argparse type: a path that other libraries than Python open too."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"the name {text!r} is not UTF-8, which ONNX Runtime cannot open: rename it")
    return Path(text)


def standard_input_lines() -> Iterator[str]:
    """The lines of a pipe or a file on stdin, as UTF-8 whatever the locale; a byte order mark is dropped.

    Bytes that are not UTF-8 become lone surrogates (:func:`is_utf8`).
    """
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(sys.stdin):
        yield line if number else line.removeprefix(_BYTE_ORDER_MARK)


def restart_in_utf8() -> None:
    """Replace this process by the same one in Python's UTF-8 mode where file names are ASCII to it; else do nothing.

    For entry points, before anything is read.
    """
    switch = ["-X", "utf8"]
    if sys.getfilesystemencoding() != "ascii" or sys.orig_argv[1:3] == switch:
        return
    environment = os.environ | {"PYTHONUTF8": "1"}  # for the processes that this one starts
    os.execve(sys.executable, [sys.orig_argv[0], *switch, *sys.orig_argv[1:]], environment)
