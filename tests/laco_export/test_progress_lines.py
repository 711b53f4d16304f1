"""The lines: what they say at a moment, and that a thread prints them while one step runs and never afterwards."""

import threading
import time

import pytest

from laco_export import progress_lines
from laco_export.progress_lines import ProgressLines, clock_time


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quick(monkeypatch):
    """Lines after 0.05 s, and then each 0.05 s."""
    monkeypatch.setattr(progress_lines, "FIRST_AFTER", 0.05)
    monkeypatch.setattr(progress_lines, "EVERY", 0.05)


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "nothing came in 10 s"
        time.sleep(0.005)


def test_steps_with_loss_rate_and_time_left(clock):
    lines = ProgressLines("stage-1", 600, print, clock=clock)
    clock.now += 20  # the first batch is read
    lines.advance(0)
    for step in range(1, 121):
        clock.now += 4
        lines.advance(1)
        lines.advance(0, note=f"loss {3 - step / 100:.3f}")
    assert lines.line() == "stage-1: 120 of 600, loss 1.800, 4 s each, 8:20 elapsed, 32:00 left"


def test_a_long_step_takes_from_the_time_left(clock):
    lines = ProgressLines("stage-1", 10, print, clock=clock)
    for _ in range(6):
        clock.now += 10
        lines.advance()
    assert lines.line().endswith("10 s each, 1:00 elapsed, 0:40 left")
    clock.now += 15
    assert lines.line().endswith("10 s each, 1:15 elapsed, 0:25 left")
    clock.now += 500
    assert lines.line().endswith("0:00 left")


def test_what_an_interrupted_run_had_done_does_not_count_for_the_rate(clock):
    lines = ProgressLines("stage-1", 600, print, clock=clock)
    clock.now += 5
    lines.advance(500)
    assert lines.line() == "stage-1: 500 of 600, 0:05 elapsed"
    clock.now += 20
    lines.advance(10)
    assert lines.line() == "stage-1: 510 of 600, 2 s each, 0:25 elapsed, 3:00 left"


def test_many_a_second(clock):
    lines = ProgressLines("data", 8000, print, clock=clock)
    lines.advance(1000)
    clock.now += 10
    lines.advance(2500)
    assert lines.line() == "data: 3500 of 8000, 250 a second, 0:10 elapsed, 0:18 left"


def test_without_a_total(clock):
    lines = ProgressLines("export the language model", None, print, clock=clock)
    clock.now += 10
    assert lines.line() == "export the language model: 0:10 elapsed"
    lines.advance(0, "rounding to int4")
    clock.now += 120
    assert lines.line() == "rounding to int4: 2:10 elapsed"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (725, "12:05"), (3725, "1:02:05")]
)
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text


def test_lines_come_while_one_step_runs_and_never_after_the_block(quick):
    said = []
    with ProgressLines("compile", None, said.append):
        wait_for(lambda: len(said) >= 3)
    count = len(said)
    time.sleep(0.2)
    assert len(said) == count and set(said) == {"compile: 0:00 elapsed"}
    assert not [thread for thread in threading.enumerate() if thread.name == "progress of compile"]


def test_short_work_says_nothing():
    said = []
    with ProgressLines("compile", None, said.append):
        time.sleep(0.05)
    assert said == []


def test_an_error_of_the_work_passes_and_ends_the_lines(quick):
    with pytest.raises(ValueError, match="no GPU"), ProgressLines("compile", None, lambda line: None):
        raise ValueError("no GPU")
    assert not [thread for thread in threading.enumerate() if thread.name == "progress of compile"]


def test_the_work_goes_on_when_nobody_reads_stderr_any_more(quick):
    tried = []

    def broken(line):
        tried.append(line)
        raise BrokenPipeError

    with ProgressLines("compile", None, broken) as lines:
        wait_for(lambda: tried)
        lines.advance(0, "still here")
        time.sleep(0.2)
    assert len(tried) == 1
