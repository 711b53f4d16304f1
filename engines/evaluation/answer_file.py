"""Answers kept as they come, a JSON line each, so that an interrupted evaluation goes on where it was.

::

    answers/rank-0.jsonl     {"model": {"sha256": …, "depth": …}}      who answers, in the first line
                             {"key": …, "task": …, "answer": …}       then the answers
    answers/rank-1.jsonl     another process of the same evaluation
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from laco_export.errors import UsageError


def answer_key(**facts) -> str:
    """Names a question: the SHA-256 of what was asked, in which task, and how it is to be answered."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def model_identity(
    sha256: str,
    at: str | None,
    max_frames: int | None,
    *,
    runtime: str | None = None,
    text_runtime: str | None = None,
    provider: str | None = None,
) -> dict:
    """What a model's answers depend on: the digest of its weights or its manifest, the depth, the frames of a video,
    and the runtimes, whose arithmetic differs; each as it was asked for."""
    runtimes = {"runtime": runtime, "text_runtime": text_runtime, "provider": provider}
    return {"sha256": sha256, "depth": at, "max_frames": max_frames, **runtimes}


class AnswerFile:
    """The answers of one process, and those that any process of an earlier run left in the same folder.

    Args:
        folder: made where it is not there.
        model: who answers; everything that an answer depends on.
        rank: of this process.

    Attributes:
        answers: key → record.

    Raises:
        UsageError: the folder holds another model's answers, or a line in it cannot be read.
    """

    def __init__(self, folder: Path, model: Mapping, rank: int = 0):
        self.answers: dict[str, dict] = {}
        folder.mkdir(parents=True, exist_ok=True)
        check_answers_of(folder, model)
        for path in sorted(folder.glob("rank-*.jsonl")):
            self.answers |= {record["key"]: record for record in _records(path) if "key" in record}
        path = folder / f"rank-{rank}.jsonl"
        is_new = not path.exists() or not path.stat().st_size
        if not is_new:
            _drop_broken_end(path)
        self._file = path.open("a", encoding="utf-8")
        if is_new:
            self._write({"model": dict(model)})

    def add(self, record: Mapping) -> None:
        """Keep an answer; it is on the disk when this returns."""
        self.answers[record["key"]] = dict(record)
        self._write(record)

    def close(self) -> None:
        self._file.close()

    def _write(self, record: Mapping) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def check_answers_of(folder: Path, model: Mapping) -> None:
    """Raise :class:`UsageError` where ``folder`` holds answers of another :func:`model_identity`."""
    for path in sorted(folder.glob("rank-*.jsonl")):
        stated = next(iter(_records(path)), {}).get("model")
        if stated is not None and stated != dict(model):
            differs = sorted(name for name in stated.keys() | model.keys() if stated.get(name) != model.get(name))
            raise UsageError(
                f"'{folder}' holds the answers of another model",
                given=", ".join(f"{name} {model.get(name)}" for name in differs),
                allowed=", ".join(f"{name} {stated.get(name)}" for name in differs),
                todo="give another folder (--output), or remove this one",
            )


def failed_answers(folder: Path) -> dict[str, int]:
    """Of the questions that could not be answered: why → how many."""
    last: dict[str, str | None] = {}
    for path in sorted(folder.glob("rank-*.jsonl")):
        for record in _records(path):
            if "key" in record and not (record["failed"] and last.get(record["key"], "") is None):
                last[record["key"]] = record["failed"]
    counts: dict[str, int] = {}
    for why in last.values():
        if why is not None:
            counts[why] = counts.get(why, 0) + 1
    return counts


def _records(path: Path) -> list[dict]:
    """The file's lines; the last one may have been cut off by a kill and is left out then."""
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise UsageError(
                f"line {number} of '{path}' is not JSON", todo="remove the line, or the folder to begin anew"
            ) from None
    return records


def _drop_broken_end(path: Path) -> None:
    """Cut off what a kill left of a line."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
