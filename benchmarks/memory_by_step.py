"""The resident memory of a command while it runs, by the steps that it names on stderr.

from memory_by_step import run_sampled

Linux counts a process's resident pages in two kinds, and this tells them apart: *anonymous* ones (``RssAnon``), which
are the process's own until it gives them back, and pages of *files* (``RssFile``: a mapped checkpoint, a mapped weight
file, libraries), which the kernel drops by itself where memory is short. A step ends with the line ``name: 1.2 s``, as
:class:`laco_export.console.Steps` writes it into a log.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.02
BEHIND = "after the last step"
_STEP_ENDED = re.compile(r"^(?P<name>\S.*): \d+\.\d s$")


@dataclass(frozen=True)
class Sample:
    """Resident bytes at a moment of :func:`time.perf_counter`, and the processor seconds used until then."""

    seconds: float
    cpu_seconds: float
    anonymous: int
    file_backed: int

    @property
    def resident(self) -> int:
        return self.anonymous + self.file_backed


@dataclass(frozen=True)
class SampledRun:
    """A command that ended well.

    Attributes:
        steps: step → its ``seconds`` and ``cpu_seconds``, and its largest ``resident``, ``anonymous`` and
            ``file_backed`` in bytes, each for itself. The time before the first step's end is the first step's.
    """

    wall_s: float
    cpu_s: float
    samples: tuple[Sample, ...]
    steps: dict[str, dict[str, float]]

    def to_json(self) -> dict:
        """Without the samples: seconds, the fullest moment, the most of each kind, and the steps."""
        fullest = max(self.samples, key=lambda sample: sample.resident)
        return {
            "wall_s": round(self.wall_s, 1),
            "cpu_s": round(self.cpu_s, 1),
            "peak_resident_bytes": fullest.resident,
            "anonymous_bytes_then": fullest.anonymous,
            "peak_anonymous_bytes": max(sample.anonymous for sample in self.samples),
            "by_step": self.steps,
        }


def run_sampled(command: Sequence[str]) -> SampledRun:
    """Run ``command`` and sample its memory fifty times a second.

    Raises:
        SystemExit: it failed; what it wrote on stderr is shown.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines: list[tuple[float, str]] = []
    reader = threading.Thread(target=lambda: lines.extend((time.perf_counter(), line) for line in process.stderr))
    reader.start()
    samples = []
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        samples += _resident_memory(process.pid)
        time.sleep(INTERVAL_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode:
        sys.stderr.writelines(line for _, line in lines)
        raise SystemExit(f"error: {' '.join(command)} ended with {process.returncode}")
    ends = [(moment, found["name"]) for moment, line in lines if (found := _STEP_ENDED.match(line.rstrip()))]
    return SampledRun(
        wall_s=time.perf_counter() - start,
        cpu_s=used.ru_utime + used.ru_stime,
        samples=tuple(samples),
        steps=_by_step(start, samples, ends),
    )


def _resident_memory(pid: int) -> list[Sample]:
    """One sample; none where the process is just ending."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(RssAnon|RssFile):\s+(\d+) kB", status, re.MULTILINE)}
    if not kib:
        return []
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]  # user, system, and of children
    cpu_seconds = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return [Sample(time.perf_counter(), cpu_seconds, kib["RssAnon"] << 10, kib["RssFile"] << 10)]


def _by_step(start: float, samples: Iterable[Sample], ends: Sequence[tuple[float, str]]) -> dict[str, dict]:
    steps, began, used = {}, start, 0.0
    for ended, name in [*ends, (float("inf"), BEHIND)]:
        within = [sample for sample in samples if began <= sample.seconds < ended]
        if within:
            steps[name] = {
                "seconds": round(within[-1].seconds - began, 2),
                "cpu_seconds": round(within[-1].cpu_seconds - used, 2),
                **{kind: max(getattr(sample, kind) for sample in within) for kind in _KINDS},
            }
            used = within[-1].cpu_seconds
        began = ended
    return steps


_KINDS = ("resident", "anonymous", "file_backed")
