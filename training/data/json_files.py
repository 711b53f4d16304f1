"""LLaVA's JSON, as a list or one sample a line, read sample by sample.

The file is parsed once, window by window, and forgotten: what stays is where each sample stands, how many pictures it
names and how long its texts are, 18 bytes a sample. A sample is read and parsed again when it is asked for.
"""

from __future__ import annotations

import codecs
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .conversations import pictures_of, text_length
from .errors import DataError, NoSamplesError
from .positioned_file import PositionedFile

_WINDOW = 8 << 20  # bytes parsed at a time
_LONGEST_SAMPLE = 256 << 20  # a longer one is a file whose brackets do not close
_SAMPLE_FIELDS = frozenset(("conversations", "question"))  # one of which tells a sample from another document
_GAP = re.compile(r"[ \t\r\n,]*")


class JsonSource:
    """The samples of a LLaVA-style JSON file: ``[{id, image, conversations}, …]``, or such objects one after another.

    Attributes:
        pictures: int16 ``[n]``, as :func:`~.conversations.pictures_of` counts them.
        text_lengths: int32 ``[n]``, bytes of the conversation.

    Raises:
        DataError: no such file, not JSON, not UTF-8, or no list of samples.
    """

    holds_pictures = False

    def __init__(self, path: Path):
        self.path, self._file = path, PositionedFile(path)
        offsets, sizes, pictures, lengths = array("q"), array("i"), array("h"), array("i")
        for offset, size, entry in _scan(path):
            if not isinstance(entry, dict):
                raise _no_list(path, f"entry {len(offsets)} is {type(entry).__name__}")
            offsets.append(offset)
            sizes.append(size)
            pictures.append(pictures_of(entry))
            lengths.append(text_length(entry))
        if not offsets:
            raise _no_list(path, "no sample", NoSamplesError)
        is_sample = not _SAMPLE_FIELDS.isdisjoint(entry)
        if len(offsets) == 1 and not is_sample and b"[" not in self._file.read(0, offsets[0]):
            raise _no_list(path, f"one object that holds {', '.join(map(repr, list(entry)[:8])) or 'nothing'}")
        self._offsets, self._sizes = np.asarray(offsets), np.asarray(sizes)
        self.pictures, self.text_lengths = np.asarray(pictures), np.asarray(lengths)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> dict:
        data = self._file.read(int(self._offsets[index]), int(self._sizes[index]))
        try:
            return json.loads(data, strict=False)
        except (ValueError, RecursionError) as error:
            raise DataError(f"data file '{self.path}' was changed while it was read: {error}") from None


def read_entries(path: Path) -> list[dict]:
    """All samples of a LLaVA-style JSON file at once, for small files.

    Raises:
        DataError: as :class:`JsonSource`.
    """
    return list(JsonSource(path))


def _scan(path: Path) -> Iterator[tuple[int, int, object]]:
    """Each top-level value with its offset and size in bytes."""
    parse = json.JSONDecoder(strict=False).raw_decode
    window = _Window(path)
    if is_list := window.starts_with("["):
        window.position += 1
    while window.skip_gap():
        if is_list and window.starts_with("]"):
            window.position += 1
            if window.skip_gap():
                raise _not_json(path, "something follows the list's end", window.place)
            return
        while True:
            try:
                entry, end = parse(window.text, window.position)
                break
            except json.JSONDecodeError as error:
                reason, place = error.msg, window.offset + error.pos
                if not window.extend():
                    raise _not_json(path, reason, place) from None
            except RecursionError:
                raise _not_json(path, "brackets are nested too deeply", window.place) from None
        raw = window.text[window.position : end]
        if not raw.isascii():  # its texts are counted as what they are, not a character a byte
            entry = json.loads(raw.encode("latin-1"), strict=False)
        yield window.place, end - window.position, entry
        window.position = end
    if is_list:
        raise _not_json(path, "the list does not end", window.place)


class _Window:
    """A moving part of a file as text, one character a byte.

    JSON's own characters are ASCII and UTF-8's other bytes lie above them, so read as Latin-1 the text parses alike,
    and places in it are places in the file. Whether the bytes are UTF-8 is checked as they are read.
    """

    def __init__(self, path: Path):
        self.path, self.text, self.position, self.offset = path, "", 0, 0
        self._check = codecs.getincrementaldecoder("utf-8")()
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise DataError(f"there is no data file '{path}'", todo="check data_folder and stages.*.data") from None
        except OSError as error:
            raise DataError(f"data file '{path}' cannot be read: {error.strerror}") from None
        if self.extend() and self.text.startswith("\xef\xbb\xbf"):  # UTF-8's byte order mark
            self.position = 3
        self.skip_gap()

    def extend(self) -> bool:
        """Read more behind the text, forgetting what lies before the position; False at the end of the file."""
        if len(self.text) - self.position > _LONGEST_SAMPLE:
            return False
        data = self._file.read(max(_WINDOW, len(self.text) - self.position))  # doubled, so a long sample costs twice
        try:
            self._check.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DataError(f"data file '{self.path}' is not UTF-8: {error.reason}", todo="convert it") from None
        self.offset += self.position
        self.text, self.position = self.text[self.position :] + data.decode("latin-1"), 0
        return bool(data)

    def skip_gap(self) -> bool:
        """Move to the next value; False where none follows."""
        while True:
            self.position = _GAP.match(self.text, self.position).end()
            if self.position < len(self.text):
                return True
            if not self.extend():
                return False

    @property
    def place(self) -> int:
        """The position in the file."""
        return self.offset + self.position

    def starts_with(self, character: str) -> bool:
        return self.text.startswith(character, self.position)


def _not_json(path: Path, reason: str, place: int) -> DataError:
    return DataError(f"data file '{path}' is not JSON: {reason} at byte {place:,}", todo="the file may be cut off")


def _no_list(path: Path, shape: str, kind: type[DataError] = DataError) -> DataError:
    return kind(f"data file '{path}' is not a list of samples", given=shape, allowed="[{id, image, conversations}, …]")
