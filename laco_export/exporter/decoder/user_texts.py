"""The texts that a user gives (``--llm-texts``, ``--vocabulary``), read and refused in one place."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError

_ALLOWED = "text files in UTF-8"


def read_user_text(path: Path, option: str = "--llm-texts") -> str:
    """A file's text, which ``option`` names.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or holds nothing but white space.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"a text of {option} cannot be read: {reason}", given=str(path), allowed=_ALLOWED) from None
    if not text.strip():
        raise UsageError(f"a text of {option} is empty", given=str(path), allowed=_ALLOWED)
    return text
