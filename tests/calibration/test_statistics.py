"""Statistics of real runs over real photographs: streamed, interrupted, merged, compared, refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laco_calibration.errors import CalibrationError
from laco_calibration.graph.linear_layers import AFTER, BEFORE, MERGE, PROJECTOR
from laco_calibration.graph.partial_runner import SegmentRunner
from laco_calibration.source.picture_set import find_pictures, read_tiles
from laco_calibration.statistics.observer import empty_statistics, observe
from laco_calibration.statistics.records import MLP_BRANCH, RESIDUAL_BRANCH, Statistics, compare, merge


@pytest.fixture(scope="module")
def digest(fp32_bundle) -> str:
    return fp32_bundle.graph_sha256(fp32_bundle.manifest.vision.graphs[0])


@pytest.fixture(scope="module")
def look(fp32_bundle, digest, photographs):
    """``look(names, statistics=None, **options)``: the statistics of some of the photographs, by index."""
    from laco_export.exporter.external_data import graph_from_file

    graph = graph_from_file(fp32_bundle.file("vision_b1.onnx"))
    picture_set = find_pictures([photographs])

    def run(indices, statistics=None, **options) -> Statistics:
        statistics = statistics or empty_statistics(graph, digest)
        observe(graph, fp32_bundle, picture_set, [picture_set.pictures[i] for i in indices], statistics, **options)
        return statistics

    return run


def test_sees_what_the_graph_computes(look, graph, fp32_bundle, photographs):
    statistics = look([3, 7])
    seen: dict[str, list] = {}
    for index in (3, 7):
        tile = next(read_tiles(find_pictures([photographs]).pictures[index], fp32_bundle))
        SegmentRunner(graph).run(tile, lambda node, x, _: seen.setdefault(node.inputs[0].name, []).append(x))
    for name, tensor in statistics.tensors.items():
        if tensor.readers:
            values, histogram = torch.cat(seen[name]), tensor.histogram
            assert histogram.total == values.numel() / len(tensor.readers), "counted once, whoever reads it"
            assert np.isclose(histogram.high, float(values.max()), rtol=1e-4, atol=1e-5)
            assert np.allclose(histogram.channel_max, values.abs().flatten(0, -2).amax(0), rtol=1e-3, atol=1e-5)


def test_keeps_the_regions_and_the_merges_branches_apart(look):
    tensors = look([0]).tensors.values()
    regions = [tensor.region for tensor in tensors]
    assert set(regions) == {BEFORE, AFTER, PROJECTOR, f"{MERGE}: {MLP_BRANCH}", f"{MERGE}: {RESIDUAL_BRANCH}"}
    (residual,) = [tensor for tensor in tensors if tensor.region.endswith(RESIDUAL_BRANCH)]
    assert residual.readers == [] and residual.histogram.total == 16 * 32


def test_a_resumed_run_is_equal_to_an_uninterrupted_one(look, tmp_path, monkeypatch):
    import laco_calibration.statistics.observer as observer

    whole = look(range(6))
    progress = tmp_path / "progress.json"
    monkeypatch.setattr(observer, "SAVE_EVERY", 2)
    count = iter(range(10))

    def interrupt():
        if next(count) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(range(6), keep=progress, advance=interrupt)
    half = Statistics.load(progress)
    assert 2 <= len(half.pictures) < 6

    resumed = look(range(6), half, keep=progress)
    assert resumed.digest() == whole.digest() == Statistics.load(progress).digest()


def test_an_interruption_inside_a_picture_leaves_the_last_write(look, tmp_path, monkeypatch):
    import laco_calibration.statistics.observer as observer
    from laco_calibration.statistics.histogram import Histogram

    monkeypatch.setattr(observer, "SAVE_EVERY", 2)
    progress, calls, add = tmp_path / "progress.json", [], Histogram.add

    def failing(self, values):
        calls.append(1)
        if len(calls) == 50:
            raise KeyboardInterrupt
        add(self, values)

    monkeypatch.setattr(Histogram, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        look(range(6), keep=progress)
    monkeypatch.setattr(Histogram, "add", add)
    half = Statistics.load(progress)
    assert len(half.pictures) == 2
    assert half.digest() == look(range(2)).digest()


def test_parts_merge_to_the_whole(look):
    assert merge([look([0, 2, 4]), look([1, 3])]).digest() == look(range(5)).digest()


def test_survives_the_file_and_is_readable(look, tmp_path):
    statistics = look([0, 1])
    statistics.save(tmp_path / "a.json")
    assert Statistics.load(tmp_path / "a.json").digest() == statistics.digest()
    assert len((tmp_path / "a.json").read_text().splitlines()) > len(statistics.tensors)


def test_two_calibrations_are_compared_by_tensor(look):
    first, second = look([0, 1]), look([0, 1])
    assert all(tensor.distance == 0 and tensor.ratio == 1 for tensor in compare(first, second, "max"))
    other = compare(first, look([8, 9]), "max")
    assert other[0].distance > 0.02
    distances = [tensor.distance for tensor in other]
    assert distances == sorted(distances, reverse=True)


def test_compares_what_both_have_watched(look, graph, digest):
    more = look([0, 1], empty_statistics(graph, digest, attention=True))
    assert len(compare(more, look([0, 1]), "max")) == len(look([0]).tensors) < len(more.tensors)
    with pytest.raises(CalibrationError, match="has not seen a picture"):
        compare(more, empty_statistics(graph, digest), "max")


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
