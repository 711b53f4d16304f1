"""Errors that a person can act on.

Every error that a user can cause is a :class:`LacoError`: it says what failed, what was given, what is allowed, and
what to do next. Commands print it without a traceback and exit with :attr:`LacoError.exit_code`
(see :mod:`laco_export.console`).
"""

from __future__ import annotations

import re


class LacoError(Exception):
    """A failure with its remedy.

    Args:
        failed: one sentence without a final full stop: what could not be done, and why.
        given: what the user gave, when it adds to ``failed``.
        allowed: what would have been accepted.
        todo: the next step, as a command or an instruction.
    """

    exit_code = 1

    def __init__(self, failed: str, *, given: object = None, allowed: object = None, todo: str | None = None):
        self.failed, self.given, self.allowed, self.todo = failed, given, allowed, todo
        super().__init__(failed)

    def __str__(self) -> str:
        lines = [self.failed]
        for label, value in (("given", self.given), ("allowed", self.allowed), ("do", self.todo)):
            if value is not None:
                lines.append(f"  {label + ':':<9}{value}")
        return "\n".join(lines)


_SOURCE_POSITION = re.compile(
    r"(?:/\S+/)?\w+\.(?:cc|cpp|h|cu):\d+ "  # the file, with its folders or without
    r"(?:[^()\n]*\((?:[^()\n]|\([^()\n]*\))*\)(?: const)? ?)?"  # the function, with its arguments
)
_ERROR_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : ([A-Z_]+) : ")


def telling_line(error: BaseException) -> str:
    """The line of another library's error that says what is wrong, whole: for the first line of our own message.

    Of ONNX Runtime's errors the source positions and C++ signatures, which may fill hundreds of characters, are left
    out; of those that quote another error, so are the quotation's code and position. The whole text is the cause's:
    raise ``from`` it, so that ``--debug`` shows it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # a heading, and what it announces
    return " ".join(_SOURCE_POSITION.sub("", _ERROR_CODE.sub("", told)).split()) or told


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up, by PyO3's ``PanicException``: no ``Exception``, and not to be imported."""
    return type(error).__name__ == "PanicException"


class UsageError(LacoError):
    """The command or call was given something that it does not take."""

    exit_code = 2


class DepthError(UsageError):
    """A compression depth that does not exist, or that this checkpoint does not carry."""


class OutputExistsError(UsageError):
    """The output's name is taken, and ``--force`` was not given."""


class ConfigError(UsageError):
    """A configuration field with a value outside what it may hold; the message names the field."""


def check_whole(name: str, value: object, *, least: int = 1) -> None:
    """Raise :class:`ConfigError` unless the configuration field ``name`` holds a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}", given=repr(value))


class CheckpointError(LacoError):
    """A folder that is no sound LaCo checkpoint."""


class BundleError(LacoError):
    """A folder that is no sound bundle."""


class DiskSpaceError(LacoError):
    """The disk cannot hold what is to be written."""


class ImageError(LacoError):
    """A picture that cannot or may not be read."""


class VideoError(ImageError):
    """A video that cannot or may not be read."""


class ExportError(LacoError):
    """The exporter refused to give out a graph: a rewrite, a gate or the comparison with PyTorch failed."""


class NotFiniteError(LacoError):
    """A part of a model gave inf or NaN, which is no answer."""
