"""A command in a process of its own, bounded in time and memory, and the verdict on what it did."""

from __future__ import annotations

import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 8 << 30  # of a process's data: what asks for more gets a MemoryError, as on a small machine
_CLOCK = 5
_UNCAUGHT = 70
_INTERNAL = re.compile(r"internal error|Traceback \(most recent call last\)", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """What a process did.

    Attributes:
        code: its exit status; None where it was ended because it ran too long; negative for a signal.
        said: all that it wrote, its lines joined.
        seconds: by the clock.
        peak_bytes: of resident memory.
    """

    code: int | None
    said: str
    seconds: float
    peak_bytes: int

    @property
    def is_crash(self) -> bool:
        return self.code is None or self.code < 0 or self.code == _UNCAUGHT or bool(_INTERNAL.search(self.said))

    def __str__(self) -> str:
        ending = "ran too long" if self.code is None else f"exit {self.code}"
        error = self.said.find("error:")
        return f"{ending}: {self.said[max(0, error) :][:300]}" if self.said else ending


@dataclass(frozen=True)
class Verdict:
    """Whether what happened is right, and what happened."""

    right: bool
    happened: str


@dataclass(frozen=True)
class Fault:
    """A line of the list.

    Attributes:
        letter: its class.
        done: what is done.
        expected: ``refused``, ``answered``, ``refused or answered``, ``remarked``, ``caught``, ``bounded``.
        attempt: does it in a workshop and judges.
    """

    letter: str
    done: str
    expected: str
    attempt: Callable[..., Verdict]


def refused(ended: Ended, *words: str) -> Verdict:
    """An error that a person can act on: exit status 1 or 2, no traceback, and one of ``words`` (patterns) in it."""
    named = not words or any(re.search(word, ended.said, re.IGNORECASE) for word in words)
    return Verdict(not ended.is_crash and ended.code in (1, 2) and named, str(ended))


def answered(ended: Ended) -> Verdict:
    return Verdict(ended.code == 0 and not ended.is_crash, str(ended))


def remarked(ended: Ended, *words: str) -> Verdict:
    """It is done, and the remark is made; to refuse it by that name is right too."""
    named = any(re.search(word, ended.said, re.IGNORECASE) for word in words)
    return Verdict(not ended.is_crash and named, str(ended) if named else f"no word of it; {ended}")


def bounded(ended: Ended, beside: Ended, most_bytes: int) -> Verdict:
    """Neither a crash nor more than ``most_bytes`` of memory beyond those of the process ``beside``."""
    grown = ended.peak_bytes - beside.peak_bytes
    return Verdict(not ended.is_crash and grown <= most_bytes, f"{grown / 1e6:+,.0f} MB; {ended}")


def fork(work: Callable[[], int], *, seconds: float = 60, environment: dict[str, str] | None = None) -> Ended:
    """Run ``work`` in a fork of this process, which has imported what takes long; its result is the exit status.

    Args:
        seconds: of the processor; by the clock it has :data:`_CLOCK` times as many, since a machine may be busy.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        child = os.fork()
        if not child:
            _be_the_child(work, output.fileno(), environment or {}, math.ceil(seconds))
        status, used = _wait(child, start + _CLOCK * seconds)
        output.seek(0)
        said = " ".join(output.read(1 << 20).decode(errors="replace").split())
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return Ended(code, said, time.perf_counter() - start, 1024 * used.ru_maxrss)


def execute(words: Sequence[str], *, seconds: float = 600, environment: dict[str, str], cwd: Path) -> Ended:
    """Run a command that imports everything anew, in a folder without packages of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, env=environment
    )
    try:
        said, code = process.communicate(timeout=seconds)[0], process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        said, code = process.communicate()[0], None
    said = " ".join(said.decode(errors="replace").split())
    return Ended(code, said, time.perf_counter() - start, 0)


def _be_the_child(work: Callable[[], int], output: int, environment: dict[str, str], seconds: int) -> None:
    code = _UNCAUGHT
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os.environ.update(environment)
        code = work() or 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _wait(child: int, deadline: float):
    while True:
        process, status, used = os.wait4(child, os.WNOHANG)
        if process:
            return status, used
        if time.perf_counter() > deadline:
            os.killpg(child, signal.SIGKILL)  # the child leads a session of its own
            _, _, used = os.wait4(child, 0)
            return None, used
        time.sleep(0.01)
