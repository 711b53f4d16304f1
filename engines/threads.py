"""How many threads a runtime should use here.

A runtime left to itself counts the machine's cores. Inside a container or a CPU set that starts more threads than may
run, and they wait for each other.
"""

from __future__ import annotations

import os
from pathlib import Path


def default_threads() -> int:
    """Physical cores that this process may use: its CPU affinity, one thread a core, at most the cgroup's quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core_of(cpu) for cpu in allowed}
    quota = _cgroup_quota()
    return max(1, len(cores) if quota is None else min(len(cores), int(quota + 0.5)))


def _core_of(cpu: int, root: Path = Path("/sys/devices/system/cpu")) -> str:
    """A name that hyper-threads of one core share."""
    try:
        return (root / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs' worth of time that the cgroup grants, or None without a limit (cgroup v2 first, then v1)."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
