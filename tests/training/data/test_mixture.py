"""LLaVA-OneVision's sampling strategies, and mixtures that cannot be used."""

import random

import pytest

from laco_training.data.errors import DataError
from laco_training.data.mixture import open_parts, sampled_rows


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("first:2", [0, 1]),
        ("first:100", [0, 1, 2, 3, 4, 5, 6]),
        ("first:0", []),
        ("end:3", [4, 5, 6]),
        ("end:0", []),
        ("first:15%", [0, 1]),  # 1.05, rounded up as LLaVA does
        ("end:50%", [3, 4, 5, 6]),
        ("end:100%", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_strategies(strategy, rows):
    assert sampled_rows(7, strategy).tolist() == rows


def test_random_draws_by_the_seed():
    rows = sampled_rows(1000, "random:10%", seed=(3, 1))
    assert len(rows) == len(set(rows.tolist())) == 100
    assert rows.tolist() == sorted(rows.tolist()) == sampled_rows(1000, "random:100", seed=(3, 1)).tolist()
    assert rows.tolist() != sampled_rows(1000, "random:100", seed=(3, 2)).tolist()
    assert max(rows) > 800 and min(rows) < 200
    assert len(sampled_rows(10, "random:28%")) == 3


@pytest.mark.parametrize(
    "strategy", ["some", "first", "first:", "first:-1", "first:x", "all:3", "random:1.5", "middle:2"]
)
def test_unknown_strategies(strategy):
    with pytest.raises(DataError, match=r"sampling_strategy(.|\n)*allowed:"):
        sampled_rows(7, strategy)


@pytest.fixture
def write_mixture(tmp_path, write_json, write_parquet, make_turns, make_picture):
    entries = [{"id": f"j{i}", "conversations": make_turns("hi", str(i))} for i in range(10)]
    write_json(entries)
    write_json(entries[:4], "lines.jsonl")
    write_json([], "empty.json")
    rows = [{"id": f"p{i}", "image": make_picture(i), "conversations": make_turns("<image>", str(i))} for i in range(6)]
    (tmp_path / "shards").mkdir()
    write_parquet(rows, tmp_path / "shards" / "0.parquet")
    write_parquet(rows, tmp_path / "shards" / "1.parquet")

    def write(text):
        path = tmp_path / "mixture.yaml"
        path.write_text(text)
        return path

    return write


def test_a_mixture(write_mixture, processor, tmp_path):
    from laco_training.data import count_samples, open_dataset

    path = write_mixture("""
datasets:
  - {json_path: data.json, sampling_strategy: "end:2"}
  - {json_path: lines.jsonl}
  - {json_path: shards, sampling_strategy: "random:3"}
  - {json_path: shards/1.parquet, sampling_strategy: "first:50%", images: shards}
""")
    dataset = open_dataset(path, processor)
    ids = [dataset[i]["notes"].ids[0] for i in range(len(dataset))]
    assert ids[:6] == ["j8", "j9", "j0", "j1", "j2", "j3"] and ids[9:] == ["p0", "p1", "p2"]
    assert len(ids) == count_samples(path) == 12
    assert all(name.startswith("p") for name in ids[6:9])
    assert count_samples(tmp_path / "shards" / "*.parquet") == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: [{json_path: none.json}]", r"entry 1: there is no data file '.*none\.json'"),
        ("datasets: [{json_path: a.png}]", r"entry 1: data file '.*a\.png' is of no known kind"),
        ("datasets: [{json_path: nodir/x}]", "entry 1: there is no data file"),
        ("datasets: [{json_path: data.json, sampling_strategy: 'last:3'}]", "entry 1: sampling_strategy is unknown"),
        (
            "datasets: [{json_path: data.json, sampling_stratgy: all}]",
            "'sampling_stratgy'(.|\n)*mean 'sampling_strategy'",
        ),
        ("datasets: [{sampling_strategy: all}]", "entry 1 has no json_path"),
        (
            "datasets: [{json_path: data.json, sampling_strategy: 'first:0'}]",
            r"comes out empty(.|\n)*data\.json: 0 of 10",
        ),
        ("datasets: [{json_path: data.json, images: 5}]", r"entry 1: images is no path(.|\n)*given: +5"),
        ("datasets: [{json_path: empty.json}]", r"comes out empty(.|\n)*empty\.json: it holds none"),
        ("datasets: []", "lists no datasets"),
        ("dataset: [{json_path: data.json}]", "lists no datasets"),
        ("- a", "lists no datasets"),
        ("datasets: [", "is not YAML"),
    ],
)
def test_a_mixture_that_cannot_be_used(write_mixture, text, message):
    with pytest.raises(DataError, match=message):
        open_parts(write_mixture(text))


def test_an_empty_file_beside_others(write_mixture):
    parts = open_parts(write_mixture("datasets: [{json_path: empty.json}, {json_path: lines.jsonl}]"))
    assert [(part.name, len(part.rows)) for part in parts] == [("lines.jsonl", 4)]


def test_a_mixture_that_is_missing(tmp_path):
    with pytest.raises(DataError, match="there is no data file"):
        open_parts(tmp_path / "none.yaml")


def test_the_draw_does_not_touch_the_global_random_state():
    random.seed(1)
    before = random.getstate()
    sampled_rows(100, "random:10")
    assert random.getstate() == before
