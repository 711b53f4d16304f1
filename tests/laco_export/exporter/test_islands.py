import pytest

from laco_export.agreement import Agreement
from laco_export.exporter.islands import segments_of, widen
from laco_export.exporter.rewrites import apply_rewrites

LAYER = "vision_model.encoder.encoder.layers.{}".format


@pytest.fixture
def traced(trace):
    traced = trace(blocks=4)
    apply_rewrites(traced.graph, traced.merges)
    return traced


def test_every_node_belongs_to_the_boundary_that_it_leads_to(traced):
    segments = segments_of(traced.graph, traced.tower.boundary_names)
    assert list(segments) == [*traced.tower.boundary_names, "image_features"]
    assert sorted(node for nodes in segments.values() for node in nodes) == sorted(n.name for n in traced.graph.nodes)
    for block in (0, 1, 3):
        assert all(LAYER(block) in node for node in segments[LAYER(block)])
    assert any(node.endswith("attention.q_proj/MatMul") for node in segments[LAYER(3)])
    assert all("projector" in node for node in segments["image_features"])


def drifted(name):
    return Agreement(name, 0.99, 1.0, 1.0, 10.0, 0.9)


@pytest.mark.parametrize(("retry", "reached"), [(1, ["3"]), (2, ["2", "3"]), (3, ["2", "3"])])
def test_each_retry_reaches_further_back(traced, retry, reached):
    names = traced.tower.boundary_names
    kept_fp32 = widen(traced.graph, names, {}, drifted(LAYER(3)), retry)
    blocks = {
        name.partition("layers.")[2].partition(".")[0].partition("/")[0] for name in kept_fp32 if ".layers." in name
    }
    assert sorted(blocks) == reached
    assert any("compressors" in name for name in kept_fp32) == (retry == 3)  # the merge stands before block 2
    assert all("cosine 0.9900000" in reason and f"retry {retry}" in reason for reason in kept_fp32.values())


def test_a_branch_widens_its_own_block_and_earlier_reasons_stay(traced):
    node = f"{LAYER(1)}.attention.q_proj/MatMul"
    kept_fp32 = widen(
        traced.graph, traced.tower.boundary_names, {node: "measured"}, drifted(f"{LAYER(1)} minus its input"), 1
    )
    assert kept_fp32[node] == "measured"
    assert {name.partition("layers.")[2][0] for name in kept_fp32} == {"1"}


def test_a_drift_in_the_first_blocks_reaches_no_further_than_the_start(traced):
    kept_fp32 = widen(traced.graph, traced.tower.boundary_names, {}, drifted(LAYER(0)), 3)
    assert any("embeddings" in name for name in kept_fp32)
    assert not any("layers.1" in name for name in kept_fp32)
