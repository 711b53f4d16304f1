"""Mended samples in a log of their own, counted by cause over processes and resumed runs."""

import json

from laco_training.data import BatchNotes, BrokenSamples, OddSamples
from laco_training.data.odd import OddSample


def noted(*indices):
    samples = [OddSample(i, f"s{i}", "data.json", ["Windows path", *["answer first"] * (i % 2)]) for i in indices]
    return BatchNotes(odd=samples)


def test_mended_samples_are_counted_once_by_each_cause(tmp_path):
    log = tmp_path / "odd.jsonl"
    first, second = (BrokenSamples(tmp_path / "b.jsonl", limit=0, total=9, odd=OddSamples(log)) for _ in range(2))
    first.record(noted(1, 2))
    second.record(noted(2, 3))  # met again by another process
    first.record(BatchNotes.joined([noted(), noted(5)]))
    assert OddSamples(log).by_cause() == {"Windows path": 4, "answer first": 3}
    assert first.lines() == [f"samples that were mended: 4 Windows path, 3 answer first (all in '{log}')"]
    assert json.loads(log.read_text().splitlines()[0])["causes"] == ["Windows path", "answer first"]


def test_a_log_of_none(tmp_path):
    samples = BrokenSamples(tmp_path / "b.jsonl", limit=0, total=9, odd=OddSamples(tmp_path / "odd.jsonl"))
    samples.record(BatchNotes())
    assert samples.lines() == [] and not list(tmp_path.iterdir())
