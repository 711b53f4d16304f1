"""Threads: the cores that this process may use, not the machine's."""

import os

import pytest

from laco_engines import threads


def test_at_least_one_and_at_most_the_affinity():
    assert 1 <= threads.default_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("quota, expected", [(None, 4), (2.0, 2), (0.2, 1), (1.5, 2), (64.0, 4)])
def test_the_cgroup_limits(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_core_of", str)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: quota)
    assert threads.default_threads() == expected


def test_hyper_threads_share_a_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_core_of", lambda cpu: str(cpu % 2))
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    assert threads.default_threads() == 2


def test_siblings_are_read_from_the_system(tmp_path):
    (tmp_path / "cpu3/topology").mkdir(parents=True)
    (tmp_path / "cpu3/topology/thread_siblings_list").write_text("3,7\n")
    assert threads._core_of(3, tmp_path) == "3,7"
    assert threads._core_of(4, tmp_path) == "4"


@pytest.mark.parametrize("text, expected", [("max 100000", None), ("150000 100000", 1.5)])
def test_cgroup_v2(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert threads._cgroup_quota(tmp_path) == expected


@pytest.mark.parametrize("quota, expected", [("-1", None), ("50000", 0.5)])
def test_cgroup_v1(tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert threads._cgroup_quota(tmp_path) == expected


def test_no_cgroup_no_limit(tmp_path):
    assert threads._cgroup_quota(tmp_path) is None
