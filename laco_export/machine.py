"""What this machine and this process have: processor, cores that may be used, memory, and what a cgroup leaves of them.

The one reader of ``/proc`` and ``/sys/fs/cgroup``. Every function takes the file system's ``root``, for tests; what a
file does not say is None.

A runtime left to itself counts the machine's cores. Inside a container or a CPU set that starts more threads than may
run, and they wait for each other: :func:`default_threads` is the one rule for all of them.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path("/")


def default_threads(root: Path = ROOT) -> int:
    """Physical cores that this process may use: its CPU affinity, one thread a core, at most the cgroup's quota."""
    cores = {_core_of(cpu, root) for cpu in usable_cpus()}
    quota = _cgroup_quota(root)
    return max(1, len(cores) if quota is None else min(len(cores), int(quota + 0.5)))


def usable_cpus() -> set[int]:
    """The logical CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cpu_name(root: Path = ROOT) -> str:
    """The processor as Linux names it."""
    match = re.search(r"model name\s*:\s*(.+)", read_text(root / "proc/cpuinfo") or "")
    return match[1].strip() if match else platform.processor() or platform.machine()


def cpu_title() -> str:
    """The processor and the threads that are used of it, for records: ``2 threads of x86_64 AMD EPYC``."""
    return f"{default_threads()} threads of {platform.machine()} {cpu_name()}"


def total_memory(root: Path = ROOT) -> int | None:
    """Bytes of main memory as Linux counts it."""
    return _kib(root / "proc/meminfo", "MemTotal")


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that a program could take now: ``MemAvailable``, at most what the cgroup leaves."""
    available = _kib(root / "proc/meminfo", "MemAvailable")
    limit, used = (read_text(root / f"sys/fs/cgroup/memory.{name}") or "" for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        left = max(0, int(limit) - int(used))
        available = left if available is None else min(available, left)
    return available


def peak_memory(root: Path = ROOT) -> int | None:
    """Bytes that this process had resident at its peak.

    ``ru_maxrss`` would be the larger parent's, whose pages a started process had until its exec.
    """
    return _kib(root / "proc/self/status", "VmHWM")


def device_tree_model(root: Path = ROOT) -> str | None:
    """The board's name where the firmware hands one over, as on a Jetson: ``NVIDIA Jetson Orin Nano …``."""
    return read_text(root / "proc/device-tree/model")


def read_text(path: Path) -> str | None:
    """A small system file without the blanks and zero bytes at its end; None where it is empty or cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def command_output(command: Sequence[str]) -> str | None:
    """What a system tool prints; None where it is missing, fails, or takes longer than ten seconds."""
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout if completed.returncode == 0 else None


def library_versions(distributions: Sequence[str]) -> dict[str, str]:
    """The installed ones among ``distributions`` and their versions, for records."""
    installed = {}
    for name in distributions:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _kib(path: Path, field: str) -> int | None:
    """A field of ``/proc/meminfo`` or ``/proc/…/status``, in bytes."""
    match = re.search(rf"^{field}:\s+(\d+) kB", read_text(path) or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _core_of(cpu: int, root: Path = ROOT) -> str:
    """A name that hyper-threads of one core share."""
    return read_text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _cgroup_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the cgroup grants, or None without a limit (cgroup v2 first, then v1)."""
    folder = root / "sys/fs/cgroup"
    fields = (read_text(folder / "cpu.max") or "").split()
    if len(fields) != 2:
        fields = [read_text(folder / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = fields
    return None if quota in (None, "max", "-1") or period is None else int(quota) / int(period)
