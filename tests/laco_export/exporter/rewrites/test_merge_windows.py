from collections import Counter
from importlib import import_module

import numpy as np
import pytest

from laco_export.exporter.rewrites import MergeGrid
from laco_export.exporter.rewrites.merge_windows import channel_of_position, merge_windows


def finish(graph):
    graph.cleanup().toposort()


@pytest.mark.parametrize(
    ("kind", "grid"), [("aimv2", (4, 4)), ("siglip", (5, 5)), ("internvit", (4, 4))], ids=["even", "padded", "CLS"]
)
def test_fires_once_and_keeps_the_numbers(trace, differences, kind, grid):
    traced = trace(kind, grid=grid)
    outcome = merge_windows(traced.graph, traced.merges)
    finish(traced.graph)
    assert (outcome.fired, outcome.refused) == (1, ())
    gathers = [node for node in traced.graph.nodes if node.op == "Transpose" and node.name.endswith("/Gather")]
    assert [node.attrs["perm"] for node in gathers] == [[0, 1, 3, 2, 4, 5]]
    assert differences(traced) == []


def test_replaces_three_transposes_by_one(trace):
    traced = trace(method="pixel_shuffle")  # no residual that still reads PyTorch's windows
    before = Counter(node.op for node in traced.graph.nodes)
    merge_windows(traced.graph, traced.merges)
    finish(traced.graph)
    after = Counter(node.op for node in traced.graph.nodes)
    assert before["Transpose"] - after["Transpose"] == 2
    assert before["Reshape"] - after["Reshape"] == 1


@pytest.mark.parametrize("ratio", [2, 3])
def test_channel_of_position_inverts_pixel_unshuffle(ratio):
    channels = 5
    by_channel = np.arange(channels * ratio**2)  # c·r² + p
    by_position = by_channel[channel_of_position(channels, ratio)]
    assert by_position.tolist() == [c * ratio**2 + p for p in range(ratio**2) for c in range(channels)]


def test_a_wrong_permutation_is_seen(trace, differences, monkeypatch):
    module = import_module("laco_export.exporter.rewrites.merge_windows")
    monkeypatch.setattr(module, "channel_of_position", lambda channels, ratio: np.arange(channels * ratio**2))
    traced = trace()
    assert merge_windows(traced.graph, traced.merges).fired == 1
    finish(traced.graph)
    assert "vision_model.compressors.block_1" in differences(traced)


def test_another_window_size_is_not_recognised(trace):
    traced = trace()
    outcome = merge_windows(traced.graph, [MergeGrid(4, 4, 4)])
    assert outcome.fired == 0
    assert "no LayerNormalization" in outcome.refused[0]


def test_refuses_when_the_norm_feeds_something_else(trace):
    traced = trace()
    norm = next(node for node in traced.graph.nodes if node.op == "LayerNormalization")
    traced.graph.outputs.append(norm.outputs[0])
    outcome = merge_windows(traced.graph, traced.merges)
    assert outcome.fired == 0
    assert "output of the graph" in outcome.refused[0]


def test_says_that_there_is_no_merge(trace):
    traced = trace(method=None)
    assert merge_windows(traced.graph, traced.merges).refused == ("the graph has no merge",)
