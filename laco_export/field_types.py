"""Types of a JSON document's fields: what a value may be, checked before any code relies on it.

::

    GRAPH = RecordField({"file": FileField(), "batch": NumberField(1, 4096, whole=True)})
    graph = GRAPH.read(document["graph"], "graph")   # or FieldError: graph.batch is 0, a whole number in 1 … 4,096

Each type's ``read`` returns the value that later code may use: a record's unknown fields are left out of it, so that a
later version may add some and nothing unchecked is carried along.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from .errors import LacoError

LARGEST_WHOLE = 2**53 - 1
"""The largest whole number that every reader of JSON keeps exactly."""

LONGEST_TEXT, LONGEST_PATH, LONGEST_NAME = 65_536, 1024, 255
_SHOWN = 60  # characters of a wrong value


class FieldError(ValueError):
    """A field holds what it may not.

    Attributes:
        place: the field, as ``vision.graphs[0].batch``.
        value: what it holds, shortened; allowed: what it may hold.
    """

    def __init__(self, place: str, value: object, allowed: str):
        self.place, self.value, self.allowed = place, _shown(value), allowed
        super().__init__(f"{place} is {self.value}; allowed: {allowed}")

    def as_error(self, kind: type[LacoError], failed: str, todo: str) -> LacoError:
        """The same as an error that a person can act on: ``failed``, and the field behind it."""
        return kind(f"{failed}: {self.place}", given=self.value, allowed=self.allowed, todo=todo)


class FieldType(Protocol):
    """What a field may hold."""

    def read(self, value: Any, place: str) -> Any:
        """The checked value; :class:`FieldError` where it is none of this type."""


@dataclass(frozen=True)
class NumberField:
    """A finite number in ``least … most``."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False

    def read(self, value: Any, place: str) -> float:
        kinds = int if self.whole else (int, float)
        limit = LARGEST_WHOLE if self.whole else math.inf
        try:
            sound = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:  # a whole number that no float holds
            sound = False
        if not sound or not self.least <= value <= min(self.most, limit):
            raise FieldError(place, value, self._allowed())
        return value

    def _allowed(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        least, most = (f"{limit:,}" if math.isfinite(limit) else "" for limit in (self.least, self.most))
        if least and most:
            return f"{kind} in {least} … {most}"
        return f"{kind} of at least {least}" if least else f"{kind} of at most {most}" if most else kind


@dataclass(frozen=True)
class TextField:
    """Text that can be printed: UTF-8 holds it, and it has no control characters but tabs and line ends."""

    one_of: tuple[str, ...] = ()
    pattern: str | None = None
    named: str = "text"
    longest: int = LONGEST_TEXT

    def read(self, value: Any, place: str) -> str:
        if self.one_of:
            if value not in self.one_of if isinstance(value, str) else True:
                raise FieldError(place, value, ", ".join(self.one_of))
            return value
        if not isinstance(value, str) or len(value) > self.longest or not _printable(value):
            raise FieldError(place, value, f"{self.named} of at most {self.longest:,} characters, none of control")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise FieldError(place, value, self.named)
        return value


@dataclass(frozen=True)
class FileField:
    """The path of a file in the folder: relative, with ``/``, as ``llm/model.onnx``."""

    def read(self, value: Any, place: str) -> str:
        allowed = "a path inside the folder, as llm/model.onnx"
        if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "replace")) <= LONGEST_PATH:
            raise FieldError(place, value, allowed)
        parts = PurePosixPath(value).parts
        inside = "/".join(parts) == value and ".." not in parts and not value.startswith("/")
        short = all(len(part.encode("utf-8", "replace")) <= LONGEST_NAME for part in parts)
        if not inside or not short or not _printable(value) or "\n" in value or "\t" in value:
            raise FieldError(place, value, allowed)
        return value


@dataclass(frozen=True)
class FlagField:
    """True or false."""

    def read(self, value: Any, place: str) -> bool:
        if not isinstance(value, bool):
            raise FieldError(place, value, "true or false")
        return value


@dataclass(frozen=True)
class NullableField:
    """Null, or what ``content`` takes."""

    content: FieldType

    def read(self, value: Any, place: str) -> Any:
        return None if value is None else self.content.read(value, place)


@dataclass(frozen=True)
class ListField:
    """``least … most`` values of one type."""

    content: FieldType
    least: int = 0
    most: int = 100_000

    def read(self, value: Any, place: str) -> list:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            count = f"{self.least:,}" if self.least == self.most else f"{self.least:,} … {self.most:,}"
            raise FieldError(place, value, f"a list of {count} entries")
        return [self.content.read(entry, f"{place}[{index}]") for index, entry in enumerate(value)]


@dataclass(frozen=True)
class MapField:
    """Values of one type by names that are not known before."""

    content: FieldType
    key: FieldType = field(default_factory=lambda: TextField(longest=LONGEST_PATH))
    least: int = 0
    most: int = 100_000

    def read(self, value: Any, place: str) -> dict:
        if not isinstance(value, Mapping) or not self.least <= len(value) <= self.most:
            raise FieldError(place, value, f"an object of {self.least:,} … {self.most:,} names")
        return {
            self.key.read(name, f"{place}: a name"): self.content.read(entry, f"{place}.{_shown(name)}")
            for name, entry in value.items()
        }


@dataclass(frozen=True)
class RecordField:
    """Named fields, each of its own type; ``optional`` ones may be missing, unknown ones are left out."""

    required: Mapping[str, FieldType] = field(default_factory=dict)
    optional: Mapping[str, FieldType] = field(default_factory=dict)

    def read(self, value: Any, place: str) -> dict:
        if not isinstance(value, Mapping):
            raise FieldError(place or "the document", value, "an object")
        inside = f"{place}." if place else ""
        for name in self.required:
            if name not in value:
                raise FieldError(f"{inside}{name}", "missing", "it must be there")
        types = {**self.required, **self.optional}
        return {name: types[name].read(entry, f"{inside}{name}") for name, entry in value.items() if name in types}


def without_controls(text: str) -> str:
    """A text that :class:`TextField` takes: characters of control are spelled as Python does, ``\\x04``."""
    return "".join(ascii(character)[1:-1] if _is_control(character) else character for character in text)


def _printable(text: str) -> bool:
    return not any(map(_is_control, text))


def _is_control(character: str) -> bool:
    if character.isprintable() or character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs")


def _shown(value: object) -> str:
    """A value for a message: short, in printable ASCII."""
    kinds = {dict: "an object", list: "a list"}
    for kind, words in kinds.items():
        if isinstance(value, kind):
            return f"{words} of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_WHOLE:
        return f"a whole number of {value.bit_length():,} bits"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
