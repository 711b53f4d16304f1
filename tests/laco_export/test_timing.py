import pytest

from laco_export import timing
from laco_export.timing import Series, TimedRun, interleave, time_run


def series(*pairs, on_cpu=True):
    return Series(on_cpu, [TimedRun(ms, ratio) for ms, ratio in pairs])


def test_stalled_samples_are_rejected():
    timed = series((10, 1.98), (11, 1.99), (40, 0.7), (10, 2.0), (30, 1.2))
    assert [sample.ms for sample in timed.accepted] == [10, 11, 10]
    assert timed.rejected == 2
    assert timed.quantile(0.5) == 10
    assert timed.cpu_ratio == pytest.approx(1.98, abs=0.02)


def test_a_device_that_is_waited_for_is_not_judged_by_cpu_time():
    assert series((10, 0.1), (11, 0.9), on_cpu=False).rejected == 0


@pytest.fixture
def clock(monkeypatch):
    """``clock.stalls``: how often the next runs stall; each run takes 10 ms of CPU, a stalled one 100 ms of wall."""

    class Clock:
        wall = cpu = 0.0
        stalls = 0
        runs: list = []

        def run(self, name):
            self.runs.append(name)
            stalled, self.stalls = self.stalls > 0, max(0, self.stalls - 1)
            self.wall += 0.1 if stalled else 0.01
            self.cpu += 0.01

    clock = Clock()
    clock.runs = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.wall)
    monkeypatch.setattr(timing.time, "process_time", lambda: clock.cpu)
    return clock


def test_a_sample_is_wall_time_and_cpu_over_wall(clock):
    clock.stalls = 1
    stalled = time_run(lambda: clock.run("a"))
    assert (stalled.ms, stalled.cpu_ratio) == (pytest.approx(100), pytest.approx(0.1))
    assert time_run(lambda: clock.run("a")).cpu_ratio == pytest.approx(1)


def test_subjects_are_run_in_turn_after_their_warm_up(clock):
    runs = {name: (lambda name=name: clock.run(name), True) for name in "ab"}
    timed = interleave(runs, repeats=3, warmup=2)
    assert "".join(clock.runs) == "aabb" + "ababab"
    assert [len(series.accepted) for series in timed.values()] == [3, 3]


def test_what_is_rejected_is_taken_again(clock):
    def a():
        clock.stalls = 1 if clock.runs.count("a") in (1, 2) else 0
        clock.run("a")

    timed = interleave({"a": (a, True), "b": (lambda: clock.run("b"), True)}, repeats=4, warmup=0)
    assert (len(timed["a"].accepted), timed["a"].rejected) == (4, 2)
    assert (len(timed["b"].accepted), timed["b"].rejected) == (4, 0)


def test_a_machine_that_stalls_most_of_the_time_is_not_waited_for(clock):
    def most():
        clock.stalls = 0 if clock.runs.count("a") % 5 == 0 else 1
        clock.run("a")

    timed = interleave({"a": (most, True)}, repeats=5, warmup=0)
    assert len(timed["a"].samples) == 5 * (1 + timing.MAX_EXTRA)
    assert len(timed["a"].accepted) == 3
