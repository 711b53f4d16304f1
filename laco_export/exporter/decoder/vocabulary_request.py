"""What ``--vocabulary`` and ``--vocabulary-size`` ask for: texts to choose a reduced vocabulary from, or its tokens.

==================  ==================================================================================================
``*.jsonl``         a JSON document a line; every string in it, at any depth, is a text
``*.json``          a list of token ids ``[17, …]``, or ``{"tokens": ["Ġthe", …], "ids": [17, …]}`` as the tokenizer
                    spells them: the vocabulary itself. Any other document: its strings are texts
another file        a text in UTF-8
a folder            the ``.txt``, ``.md``, ``.json`` and ``.jsonl`` files in it and in its subfolders, all of them texts
==================  ==================================================================================================

Nothing but the standard library is imported: what cannot be read is refused before anything else is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from .user_texts import read_user_text

OPTION = "--vocabulary"
_LINES, _DOCUMENT = ".jsonl", ".json"
_TEXT_SUFFIXES = frozenset({".txt", ".md", _LINES, _DOCUMENT})
_NAMES, _IDS = "tokens", "ids"
_NAMED = 4  # paths in a source


@dataclass(frozen=True)
class VocabularyRequest:
    """What the user asks for; nothing is known of the tokenizer yet.

    Attributes:
        files: of texts; empty where the tokens are listed.
        listed: ids and names of tokens, where a file lists them.
        size: tokens that the vocabulary is to have; None for as many as are asked for.
        source: the paths' names, for people.
    """

    files: tuple[Path, ...]
    listed: tuple[int | str, ...]
    size: int | None
    source: str

    @classmethod
    def read(cls, paths: Sequence[Path], size: int | None = None) -> VocabularyRequest:
        """Look at each file once.

        Raises:
            UsageError: a file cannot be read, is no text in UTF-8, or holds none; a folder without texts; a list of
                tokens beside something else, or one that holds anything but them; or a size below 1.
        """
        if size is not None and size < 1:
            raise UsageError(f"{OPTION}-size is a number of tokens", given=size, allowed="a whole number, as 32768")
        paths = [Path(path) for path in paths]
        source = _source_of(paths)
        for path in paths:
            listed = _listed_tokens(path)
            if listed is None:
                continue
            if len(paths) > 1:
                raise UsageError(
                    f"a list of tokens is {OPTION}'s only file: it is the vocabulary itself",
                    given=", ".join(map(str, paths)),
                    todo="leave out the other files, or the list",
                )
            return cls((), listed, size, source)
        files = tuple(file for path in paths for file in _files_of(path))
        for file in files:
            if not sum(bool(text.strip()) for text in texts_of(file)):  # all of them are looked at
                raise UsageError(f"a file of {OPTION} holds no text", given=str(file), allowed=_allowed())
        return cls(files, (), size, source)

    def texts(self) -> Iterator[str]:
        """The texts, file by file."""
        for file in self.files:
            yield from texts_of(file)


def _source_of(paths: Sequence[Path]) -> str:
    names = [path.resolve().name for path in paths]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def texts_of(file: Path) -> Iterator[str]:
    """The texts of one file: itself, or the strings of its JSON.

    Raises:
        UsageError: it cannot be read, is not UTF-8, is empty, or is no JSON where its name says so.
    """
    text = read_user_text(file, OPTION)
    if file.suffix.lower() == _LINES:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield from _strings_of(_parsed(line, file, f"line {number}: "))
    elif file.suffix.lower() == _DOCUMENT:
        yield from _strings_of(_parsed(text, file))
    else:
        yield text


def _files_of(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]  # whoever reads it says what is wrong with it
    inside = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in _TEXT_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not inside:
        raise UsageError(f"there are no texts for {OPTION} in '{path}'", allowed=_allowed())
    return inside


def _listed_tokens(path: Path) -> tuple[int | str, ...] | None:
    """The tokens that a file lists; None where it is something else."""
    if path.suffix.lower() != _DOCUMENT or path.is_dir():
        return None
    document = _parsed(read_user_text(path, OPTION), path)
    if isinstance(document, list):
        if not document or not all(type(entry) is int for entry in document):
            return None
        document = {_IDS: document}
    if not isinstance(document, dict) or not document or not document.keys() <= {_NAMES, _IDS}:
        return None
    listed = []
    for key, kind, allowed in ((_NAMES, str, "names of tokens"), (_IDS, int, "whole numbers of at least 0")):
        entries = document.get(key, [])
        wrong = (
            entries
            if not isinstance(entries, list)
            else [entry for entry in entries if type(entry) is not kind or (kind is int and entry < 0)]
        )
        if wrong:
            shown = wrong[0] if isinstance(wrong, list) else wrong
            raise UsageError(f"the list of tokens '{path}' is none", given=f"{key}: {shown!r}", allowed=allowed)
        listed += entries
    if not listed:
        raise UsageError(f"the list of tokens '{path}' is empty", allowed='{"ids": [17, …], "tokens": ["Ġthe", …]}')
    return tuple(listed)


def _parsed(text: str, file: Path, place: str = ""):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"{place}{error}" if isinstance(error, ValueError) else f"{place}it is nested too deep"
        raise UsageError(f"a file of {OPTION} is not JSON: {reason}", given=str(file), allowed=_allowed()) from None


def _strings_of(document: object) -> Iterator[str]:
    """Every string in a JSON document that is no key, in its order."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


def _allowed() -> str:
    return "texts in UTF-8, JSON or JSON lines with texts in them, or a folder of them"
