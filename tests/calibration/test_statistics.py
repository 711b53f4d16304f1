"""Statistics of real runs over real photographs: streamed, interrupted, merged, compared, refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laco_calibration.errors import CalibrationError
from laco_calibration.graph.linear_layers import AFTER, BEFORE, PROJECTOR
from laco_calibration.graph.partial_runner import SegmentRunner
from laco_calibration.source.picture_set import find_pictures, read_tiles
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_calibration.statistics.records import MERGE_BRANCHES, Statistics, compare, merge


@pytest.fixture(scope="module")
def look(fp32_bundle, photographs):
    """``look(names, statistics=None, **options)``: the statistics of some of the photographs, by index."""
    from laco_export.exporter.external_data import graph_from_file

    graph = graph_from_file(fp32_bundle.file("vision_b1.onnx"))
    pictures = find_pictures([photographs])

    def run(indices, statistics=None, **options) -> Statistics:
        statistics = statistics or empty_statistics(graph(fp32_bundle))
        observe(graph, fp32_bundle, pictures, [pictures.found[i] for i in indices], statistics, **options)
        return statistics

    return run


def test_sees_what_the_graph_computes(look, graph, fp32_bundle, photographs):
    found = look([3, 7])
    seen: dict[str, list] = {}
    for index in (3, 7):
        tile = next(read_tiles(find_pictures([photographs]).found[index], fp32_bundle))
        SegmentRunner(graph).run(tile, lambda node, x, _: seen.setdefault(node.inputs[0].name, []).append(x))
    for name, one in found.tensors.items():
        if one.readers:
            values = torch.cat(seen[name])
            assert one.histogram.total == values.numel() / len(one.readers), "counted once, whoever reads it"
            assert np.isclose(one.histogram.high, float(values.max()), rtol=1e-4, atol=1e-5)
            assert np.allclose(one.histogram.channel_max, values.abs().flatten(0, -2).amax(0), rtol=1e-3, atol=1e-5)


def test_keeps_the_regions_and_the_merges_branches_apart(look):
    regions = [one.region for one in look([0]).tensors.values()]
    assert set(regions) == {BEFORE, AFTER, PROJECTOR, *MERGE_BRANCHES}
    (residual,) = [one for one in look([0]).tensors.values() if one.region == MERGE_BRANCHES[1]]
    assert residual.readers == [] and residual.histogram.total == 16 * 32


def test_a_resumed_run_is_equal_to_an_uninterrupted_one(look, tmp_path, monkeypatch):
    import laco_calibration.statistics.observer as observer

    whole = look(range(6))
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(observer, "SAVE_EVERY", 2)
    count = iter(range(10))

    def interrupt():
        if next(count) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(range(6), keep=kept, advance=interrupt)
    half = Statistics.load(kept)
    assert 2 <= len(half.pictures) < 6

    resumed = look(range(6), half, keep=kept)
    assert resumed.digest() == whole.digest() == Statistics.load(kept).digest()


def test_an_interruption_inside_a_picture_leaves_the_last_write(look, tmp_path, monkeypatch):
    import laco_calibration.statistics.observer as observer
    from laco_calibration.statistics.histogram import Histogram

    monkeypatch.setattr(observer, "SAVE_EVERY", 2)
    kept, calls, add = tmp_path / "kept.json", [], Histogram.add

    def failing(self, values):
        calls.append(1)
        if len(calls) == 50:
            raise KeyboardInterrupt
        add(self, values)

    monkeypatch.setattr(Histogram, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        look(range(6), keep=kept)
    monkeypatch.setattr(Histogram, "add", add)
    half = Statistics.load(kept)
    assert len(half.pictures) == 2
    assert half.digest() == look(range(2)).digest()


def test_parts_merge_to_the_whole(look):
    assert merge([look([0, 2, 4]), look([1, 3])]).digest() == look(range(5)).digest()


def test_survives_the_file_and_is_readable(look, tmp_path):
    found = look([0, 1])
    found.save(tmp_path / "a.json")
    assert Statistics.load(tmp_path / "a.json").digest() == found.digest()
    assert len((tmp_path / "a.json").read_text().splitlines()) > len(found.tensors)


def test_two_calibrations_are_compared_by_tensor(look):
    first, second = look([0, 1]), look([0, 1])
    assert all(one.distance == 0 and one.ratio == 1 for one in compare(first, second, "max"))
    other = compare(first, look([8, 9]), "max")
    assert other[0].distance > 0.02
    assert [one.distance for one in other] == sorted((one.distance for one in other), reverse=True)


def test_compares_what_both_have_watched(look, graph, fp32_bundle):
    more = look([0, 1], empty_statistics(graph(fp32_bundle), attention=True))
    assert len(compare(more, look([0, 1]), "max")) == len(look([0]).tensors) < len(more.tensors)
    with pytest.raises(CalibrationError, match="has not seen a picture"):
        compare(more, empty_statistics(graph(fp32_bundle)), "max")


def test_refuses_what_does_not_belong_together(look, tmp_path):
    first = look([0, 1])
    with pytest.raises(CalibrationError, match="share pictures"):
        merge([first, look([1, 2])])
    with pytest.raises(CalibrationError, match="different graphs"):
        merge([first, replace(look([2]), graph="0" * 64)])
    with pytest.raises(CalibrationError, match="different graphs or smoothings"):
        compare(first, replace(look([2]), smoothing="1" * 64), "max")
    with pytest.raises(CalibrationError, match="of another graph"):
        first.require_same("0" * 64, "a.json")
    (tmp_path / "b.json").write_text('{"format": 1}')
    with pytest.raises(CalibrationError, match="no calibration statistics"):
        Statistics.load(tmp_path / "b.json")


def test_a_diverged_model_is_named(look, monkeypatch):
    import laco_calibration.statistics.observer as observer

    real = observer.watching

    def diverged(*arguments):
        from contextlib import contextmanager

        @contextmanager
        def open_one():
            with real(*arguments) as run:
                yield lambda pixels: {name: values * np.nan for name, values in run(pixels).items()}

        return open_one()

    monkeypatch.setattr(observer, "watching", diverged)
    with pytest.raises(CalibrationError, match="inf or NaN"):
        look([0])
