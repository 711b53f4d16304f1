"""TensorRT's and Polygraphy's messages, condensed to what a person can use.

A build prints hundreds of lines: its configuration, each parsed node, each tactic. What matters are the errors and the
warnings, each once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_UNHELPFUL = (
    "'colored' module is not installed",
    "TF32 is disabled by default",
    "module is not installed, will not use",
)
"""Warnings about Polygraphy's own colours and options, which the user did not choose."""


class Messages:
    """The lines of one build.

    Attributes:
        errors: in order, each once.
        warnings: in order, each once; ``(3 times)`` at the end of one that came thrice.
    """

    def __init__(self, lines: Sequence[str]):
        self.errors = _distinct(line for line in lines if _is_error(line))
        self.warnings = _distinct(line for line in lines if line.lstrip().startswith("[W]"))

    @property
    def reason(self) -> str:
        """The first errors on one line, without those that say again what stood before; empty where there was none."""
        told: list[str] = []
        for error in self.errors:
            if not any(error.endswith(earlier) or earlier.endswith(error) for earlier in told):
                told.append(error)
        return " | ".join(told[:3])


def _is_error(line: str) -> bool:
    text = line.strip()
    return text.startswith(("[E]", "[!]")) or bool(re.match(r"(\w+\.)*\w*(Error|Exception): ", text))


def _distinct(lines) -> list[str]:
    counted = Counter(_clean(line) for line in lines if not any(phrase in line for phrase in _UNHELPFUL))
    return [text if times == 1 else f"{text} ({times} times)" for text, times in counted.items() if text]


def _clean(line: str) -> str:
    """Without the severity mark, the source position and the serial number of TensorRT's node names."""
    text = re.sub(r"^\s*\[[EW!]\]\s*", "", line)
    text = re.sub(r"\[\w+\.cpp::\w+::\d+\]\s*", "", text)
    return re.sub(r"\s+", " ", text).strip()
