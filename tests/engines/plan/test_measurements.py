"""Figures on disk: found again by all that changes them, and never where they cannot be trusted."""

import dataclasses
import json
import os

import pytest

from laco_engines.plan.measurements import MeasuredThing, MeasurementCache, machine_identity

THING = MeasuredThing("encode", "ab" * 32, None, None, {"threads": 2, "tiles": 1})
FIGURES = {"encode_ms": 12.5}


@pytest.fixture
def cache(tmp_path):
    kept = MeasurementCache(tmp_path / "measurements")
    kept.write(THING, FIGURES)
    return kept


def test_what_was_kept_is_found_by_another_process(cache):
    again = MeasuredThing("encode", "ab" * 32, None, None, {"threads": 2, "tiles": 1})
    assert MeasurementCache(cache.folder).read(again) == FIGURES
    (path,) = cache.folder.iterdir()
    assert json.loads(path.read_text())["of"]["machine"] == machine_identity()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "text"},
        {"sha256": "cd" * 32},
        {"runtime": "onnxruntime"},
        {"text_runtime": "lean"},
        {"settings": {"threads": 1, "tiles": 1}},
        {"engines": ("one",)},
        {"machine": {"cpu": "another"}},
        {"libraries": {"onnxruntime": "0.0.1"}},
    ],
)
def test_a_change_of_anything_is_another_thing(cache, changed):
    assert cache.read(dataclasses.replace(THING, **changed)) is None


def test_fresh_reads_nothing_and_keeps_all_the_same(cache):
    fresh = MeasurementCache(cache.folder, fresh=True)
    assert fresh.read(THING) is None
    fresh.write(THING, {"encode_ms": 11.0})
    assert cache.read(THING) == {"encode_ms": 11.0}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("12.5", "-12.5"),
        lambda text: text.replace("12.5", "NaN"),
        lambda text: text.replace("12.5", '"12.5"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"threads": 2', '"threads": 3'),
        lambda text: "[]",
    ],
)
def test_what_is_damaged_is_measured_again(cache, spoil):
    (path,) = cache.folder.iterdir()
    spoiled = spoil(path.read_text())
    assert spoiled != path.read_text()
    path.write_text(spoiled)
    assert cache.read(THING) is None


def test_what_everybody_could_have_written_is_not_believed(cache):
    (path,) = cache.folder.iterdir()
    os.chmod(path, 0o666)
    assert cache.read(THING) is None


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path):
    (tmp_path / "file").write_text("")
    cache = MeasurementCache(tmp_path / "file" / "measurements")
    cache.write(THING, FIGURES)
    assert cache.read(THING) is None
