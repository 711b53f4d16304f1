"""The machine as its own files describe it: threads, memory, processor."""

import os
import sys

import pytest

from laco_export import machine

MIB = 1 << 20


@pytest.fixture
def system(tmp_path):
    """``system({path: text})``: a file system's root that holds these files."""

    def make(files: dict[str, str]):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


def test_at_least_one_thread_and_at_most_the_affinity():
    assert 1 <= machine.default_threads() <= len(os.sched_getaffinity(0))


def test_pinned_to_one_cpu_there_is_one_thread():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert machine.default_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    "quota, expected",
    [("max 100000", 4), ("200000 100000", 2), ("20000 100000", 1), ("150000 100000", 2), ("6400000 100000", 4)],
)
def test_the_cgroup_limits_threads(monkeypatch, system, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert machine.default_threads(system({"sys/fs/cgroup/cpu.max": f"{quota}\n"})) == expected


@pytest.mark.parametrize("quota, expected", [("-1", 4), ("150000", 2)])
def test_the_older_cgroup_limits_threads(monkeypatch, system, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    root = system({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota, "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"})
    assert machine.default_threads(root) == expected


def test_hyper_threads_share_a_core(monkeypatch, system):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = system({siblings.format(cpu): f"{cpu % 2},{cpu % 2 + 2}\n" for cpu in range(4)})
    assert machine.default_threads(root) == 2


def test_the_processor_as_linux_names_it(system):
    root = system({"proc/cpuinfo": "processor : 0\nmodel name\t: Some CPU @ 2 GHz\n"})
    assert machine.cpu_name(root) == "Some CPU @ 2 GHz"
    assert machine.cpu_name(root / "nowhere")
    assert machine.cpu_name() in machine.cpu_title()


def test_memory_is_what_linux_and_the_cgroup_leave(system):
    root = system({"proc/meminfo": "MemTotal:  4096 kB\nMemFree: 1 kB\nMemAvailable:   3072 kB\n"})
    assert (machine.total_memory(root), machine.available_memory(root)) == (4 * MIB, 3 * MIB)
    system({"sys/fs/cgroup/memory.max": f"{2 * MIB}\n", "sys/fs/cgroup/memory.current": f"{MIB}\n"})
    assert machine.available_memory(root) == MIB
    system({"sys/fs/cgroup/memory.max": "max\n"})
    assert machine.available_memory(root) == 3 * MIB


def test_what_no_file_says_is_none(tmp_path):
    assert machine.total_memory(tmp_path) is machine.available_memory(tmp_path) is machine.peak_memory(tmp_path) is None
    assert machine.device_tree_model(tmp_path) is None
    assert machine.command_output(["no-such-tool-of-this-name"]) is None
    assert machine.command_output([sys.executable, "-c", "raise SystemExit(3)"]) is None


def test_the_peak_grows_with_what_was_held():
    before = machine.peak_memory()
    held = bytearray(before + 8 * MIB)
    held[::4096] = bytes(len(held[::4096]))  # each page once
    assert machine.peak_memory() >= before + 8 * MIB


def test_versions_of_what_is_installed():
    assert machine.library_versions(["numpy", "no-such-distribution"]).keys() == {"numpy"}
