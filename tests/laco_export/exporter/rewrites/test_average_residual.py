from importlib import import_module

import onnx_graphsurgeon as gs
import pytest

from laco_export.exporter.rewrites import REWRITES, apply_rewrites
from laco_export.exporter.rewrites.average_residual import average_residual
from laco_export.exporter.rewrites.rewiring import integers

RESIDUAL = "vision_model.compressors.block_1.residual"


def mean_of(graph):
    return next(node for node in graph.nodes if node.op == "ReduceMean" and RESIDUAL in node.name)


@pytest.mark.parametrize(
    ("kind", "grid", "method"),
    [("aimv2", (4, 4), "laco"), ("siglip", (5, 5), "laco"), ("internvit", (4, 4), "laco")],
    ids=["even", "padded", "CLS"],
)
def test_averages_the_token_grid_itself(trace, differences, kind, grid, method):
    traced = trace(kind, grid=grid, method=method)
    outcome = average_residual(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (1, ())
    mean = mean_of(traced.graph)
    assert mean.inputs[1].values.tolist() == [2, 4]
    assert mean.inputs[0].shape[2] == mean.inputs[0].shape[4] == 2
    assert differences(traced) == []


def test_fires_for_average_pooling_alone(trace, differences):
    traced = trace(method="average_pool")
    assert average_residual(traced.graph, traced.merges).fired == 1
    traced.graph.cleanup().toposort()
    assert differences(traced) == []
    assert "Transpose" not in {n.op for n in traced.graph.nodes if "compressors" in n.name}


def test_shares_the_split_grid_with_the_merge(trace):
    traced = trace("siglip", grid=(5, 5))
    apply_rewrites(traced.graph, traced.merges)
    split = mean_of(traced.graph).inputs[0]
    assert sorted(reader.op for reader in split.outputs) == ["ReduceMean", "Transpose"]
    assert sum(node.op == "Pad" for node in traced.graph.nodes) == 1


def test_a_mean_over_other_axes_is_seen(trace, differences, monkeypatch):
    module = import_module("laco_export.exporter.rewrites.average_residual")
    # The tokens of a window side by side in memory: rows of the grid, not windows.
    monkeypatch.setattr(module, "integers", lambda name, values: integers(name, [1, 4]))
    traced = trace()
    assert average_residual(traced.graph, traced.merges).fired == 1
    traced.graph.cleanup().toposort()
    assert RESIDUAL in differences(traced)


def test_a_dropped_residual_is_seen(trace, differences):
    traced = trace()
    apply_rewrites(traced.graph, traced.merges)
    add = next(n for n in traced.graph.nodes if n.op == "Add" and any(i.name == RESIDUAL for i in n.inputs))
    index = [tensor.name == RESIDUAL for tensor in add.inputs].index(True)
    add.inputs[index] = gs.Constant("zeros", 0 * traced.expected[RESIDUAL])
    assert "vision_model.compressors.block_1" in differences(traced)


def test_refuses_a_mean_that_keeps_its_axis(trace):
    traced = trace()
    mean = mean_of(traced.graph)
    mean.attrs["keepdims"] = 1
    outcome = average_residual(traced.graph, traced.merges)
    assert outcome.fired == 0
    assert "last axis alone" in outcome.refused[0]


def test_the_rewrites_run_in_the_documented_order():
    assert [rewrite.name for rewrite in REWRITES] == [
        "fold_constants",
        "merge_windows",
        "average_residual",
        "pool_windows",
        "fold_layer_scale",
        "scale_queries",
        "remove_identities",
        "merge_duplicates",
        "fuse_rms_norms",
        "fuse_attention",
        "fuse_heads",
    ]
