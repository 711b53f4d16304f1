import pytest

from laco_export.exporter.rewrites import apply_rewrites
from laco_export.exporter.rewrites.pool_windows import pool_windows


def of_the_merge(graph):
    return [node.op for node in graph.nodes if "compressors" in node.name]


@pytest.mark.parametrize(("method", "pooling"), [("ldpv2", "AveragePool"), ("token_packer", "Resize")])
@pytest.mark.parametrize(
    ("ratio", "grid"), [(2, (4, 4)), (2, (5, 5)), (3, (6, 6)), (4, (5, 5))], ids=["2", "2 padded", "3", "4 padded"]
)
def test_pools_without_a_trip_to_channels_first(trace, differences, method, pooling, ratio, grid):
    traced = trace("siglip", grid=grid, method=method, ratio=ratio)
    assert pooling in of_the_merge(traced.graph)
    outcome = pool_windows(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (1, ())
    assert pooling not in of_the_merge(traced.graph)
    assert differences(traced) == []


def test_the_resized_grid_is_not_transposed_at_all_in_the_end(trace):
    traced = trace("siglip", grid=(5, 5), method="token_packer")
    apply_rewrites(traced.graph, traced.merges)
    (mean,) = (n for n in traced.graph.nodes if n.op == "ReduceMean" and n.name.endswith("WindowMean"))
    assert {reader.op for reader in mean.outputs[0].outputs} == {"MatMul"}


def test_a_mean_over_other_axes_is_seen(trace, differences, monkeypatch):
    from importlib import import_module

    from laco_export.exporter.rewrites.rewiring import integers

    module = import_module("laco_export.exporter.rewrites.pool_windows")
    rows = lambda name, values: integers(name, [1, 4] if name.endswith(":axes") else values)
    monkeypatch.setattr(module, "integers", rows)
    traced = trace("siglip", grid=(4, 4), method="ldpv2")
    assert pool_windows(traced.graph, traced.merges).fired == 1
    traced.graph.cleanup().toposort()
    assert "vision_model.compressors.block_1" in differences(traced)


@pytest.mark.parametrize(
    ("method", "op", "attributes", "says"),
    [
        ("ldpv2", "AveragePool", {"pads": [1, 1, 1, 1]}, "overlap or are padded"),
        ("ldpv2", "AveragePool", {"strides": [1, 1]}, "overlap or are padded"),
        ("token_packer", "Resize", {"coordinate_transformation_mode": "align_corners"}, "between pixel centres"),
        ("token_packer", "Resize", {"mode": "cubic"}, "between pixel centres"),
    ],
)
def test_refuses_what_is_no_mean_of_whole_windows(trace, method, op, attributes, says):
    traced = trace("siglip", grid=(4, 4), method=method)
    next(node for node in traced.graph.nodes if node.op == op).attrs.update(attributes)
    outcome = pool_windows(traced.graph, traced.merges)
    assert outcome.fired == 0
    assert says in outcome.refused[0]
