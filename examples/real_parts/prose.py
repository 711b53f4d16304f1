"""Running English text for perplexity: the essays and stories of the Jargon File, which is in the public domain.

Its lexicon is left out: definitions begin with pronunciations and hold cross-references. What remains are chapters and
two appendices, in their order, without headings, lists and examples: paragraphs of at least 25 words that end as a
sentence does.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from laco_export import atomic

from .archives import debian_files
from .packages import PackageError

_DOCUMENTS = "usr/share/doc/jargon-text/"
_TEXT, _COPYRIGHT = f"{_DOCUMENTS}jargon.txt.gz", f"{_DOCUMENTS}copyright"
_LEAST_WORDS = 25

_PASSAGES = (
    ("Chapter 1. Hacker Slang and Hacker Culture", "Chapter 10. Pronunciation Guide"),
    ("Appendix A. Hacker Folklore", "Appendix B. A Portrait of J. Random Hacker"),
    ("Appendix C. Helping Hacker Culture Grow", None),
)
"""First line and the first line after it; None: to the end."""


def make_prose(packages: list[Path], folder: Path) -> None:
    """Write ``prose.txt``, a paragraph a line with an empty line between two, and the licence's words."""
    files = dict(debian_files(packages[0], {_TEXT, _COPYRIGHT}.__contains__))
    if missing := sorted({_TEXT, _COPYRIGHT} - set(files)):
        raise PackageError(f"'{packages[0].name}' holds no {missing[0]}")
    paragraphs = prose_of(gzip.decompress(files[_TEXT]).decode("utf-8"))
    atomic.write_text(folder / "prose.txt", "\n\n".join(paragraphs) + "\n")
    (folder / "COPYRIGHT").write_bytes(files[_COPYRIGHT])


def prose_of(text: str) -> list[str]:
    """The passages' paragraphs, each on one line, cross-references without their braces.

    Raises:
        PackageError: a passage does not stand in ``text``.
    """
    lines = text.replace("\N{NO-BREAK SPACE}", " ").split("\n")
    paragraphs = []
    for first, after in _PASSAGES:
        if first not in lines or (after and after not in lines):
            raise PackageError(f"the prose's passage from '{first}' is not in the text")
        passage = "\n".join(lines[lines.index(first) : lines.index(after) if after else None])
        blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", passage))
        paragraphs += [re.sub(r"[{}]", "", block) for block in blocks if is_prose(block)]
    return paragraphs


def is_prose(block: str) -> bool:
    """Whether a block is long enough for a paragraph and ends as a sentence does."""
    return len(block.split()) >= _LEAST_WORDS and block.endswith((".", "!", "?", ")", "”"))
