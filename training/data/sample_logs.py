"""Logs that name samples, a JSON object a line, which all processes of a run and all its resumptions share."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def append_lines(log: Path, samples: Sequence[dict]) -> None:
    """Write samples (``index``, ``file``, ``id`` and more) at a log's end; lines of several processes do not mix.

    A lone surrogate, which JSON data can hold and UTF-8 cannot, is written escaped.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(sample, ensure_ascii=not _is_utf8(sample)) + "\n" for sample in samples)
    descriptor = os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (_line_end(descriptor) + lines).encode())  # one write
    finally:
        os.close(descriptor)


def logged_samples(log: Path) -> list[dict]:
    """The samples of a log, each once, as it was first met; none where there is no log."""
    samples: dict[tuple, dict] = {}
    if log.exists():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                sample = json.loads(line)
                samples.setdefault(key_of(sample), sample)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # an unfinished line
    return list(samples.values())


def key_of(sample: dict) -> tuple:
    """What tells a sample from others."""
    return sample["index"], sample["file"], sample["id"]


def _is_utf8(sample: dict) -> bool:
    try:
        json.dumps(sample, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _line_end(descriptor: int) -> str:
    """What ends a line that a killed process left unfinished."""
    size = os.fstat(descriptor).st_size
    return "\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else ""
