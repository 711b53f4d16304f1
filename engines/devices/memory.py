"""Memory of this machine and of this process."""

from __future__ import annotations

import re
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a program could take now: ``MemAvailable``, at most what the cgroup leaves; None if unknown."""
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"))
    available = int(match[1]) * 1024 if match else None
    limit, used = _text(root / "sys/fs/cgroup/memory.max"), _text(root / "sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        left = max(0, int(limit) - int(used))
        available = left if available is None else min(available, left)
    return available


def peak_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process had resident at its peak; None if unknown."""
    match = re.search(r"VmHWM:\s+(\d+) kB", _text(root / "proc/self/status"))
    return int(match[1]) * 1024 if match else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
