"""Samples that cannot be used: counted over processes and resumed runs, and too many at some point."""

import json

import pytest

from laco_training.data import BatchNotes, BrokenSample, BrokenSamples, DataError
from laco_training.data.errors import SampleError


def noted(*indices):
    return BatchNotes(broken=[BrokenSample(i, f"s{i}", "data.json", "torn") for i in indices])


def test_broken_samples_are_counted_over_processes_and_resumed_runs(tmp_path):
    log = tmp_path / "run" / "broken.jsonl"
    first, second = (BrokenSamples(log, limit=3, total=100) for _ in range(2))
    first.record(noted(1, 2))
    first.record(noted(1))  # met again in the next pass
    second.record(noted(2, 3))
    assert len(second) == 3
    assert {json.loads(line)["id"] for line in log.read_text().splitlines()} == {"s1", "s2", "s3"}
    with log.open("a") as file:
        file.write('{"index": 9')  # a process was killed while it wrote
    resumed = BrokenSamples(log, limit=3, total=100)
    assert len(resumed) == 3
    resumed.record(noted())
    with pytest.raises(
        DataError, match=r"4 broken samples, and max_broken allows 3(.|\n)*sample 's1' of 'data\.json': torn"
    ):
        first.record(noted(4))


def test_the_first_broken_sample_is_one_too_many_unless_allowed(tmp_path):
    with pytest.raises(DataError, match="1 broken sample, and max_broken allows 0"):
        BrokenSamples(tmp_path / "log.jsonl", limit=0, total=100).record(noted(1))
    share = BrokenSamples(tmp_path / "other.jsonl", limit=0.02, total=100)
    share.record(noted(1, 2))
    with pytest.raises(DataError, match=r"7 broken samples, and max_broken allows 2(.|\n)*and 2 more"):
        share.record(noted(*range(3, 8)))


def test_broken_samples_are_counted_by_cause(tmp_path):
    broken = BrokenSamples(tmp_path / "log.jsonl", limit=9, total=100)
    error = SampleError("empty answer", "an answer is empty", given="''")
    broken.record(BatchNotes(broken=[BrokenSample.of_error(i, f"s{i}", "data.json", error) for i in range(3)]))
    broken.record(BatchNotes(broken=[BrokenSample.of_error(7, "s7", "data.json", ValueError("torn"))]))
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["reason"] == "an answer is empty ('')"
    with (tmp_path / "log.jsonl").open("a") as file:  # as runs wrote them before causes were told apart
        file.write('{"index": 8, "id": "s8", "file": "data.json", "reason": "torn"}\n')
    assert broken.by_cause() == {"empty answer": 3, "another cause": 2}
    assert broken.lines() == [
        f"samples that were skipped: 3 empty answer, 2 another cause (all in '{tmp_path / 'log.jsonl'}')"
    ]


def test_an_id_that_is_no_utf8_is_logged(tmp_path):
    broken = BrokenSamples(tmp_path / "log.jsonl", limit=9, total=100)
    broken.record(BatchNotes(broken=[BrokenSample(1, "s\ud800", "data.json", "torn")]))
    assert json.loads((tmp_path / "log.jsonl").read_text())["id"] == "s\ud800" and len(broken) == 1
