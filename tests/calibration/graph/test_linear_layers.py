import pytest

from laco_calibration.graph.linear_layers import AFTER, BEFORE, MERGE, PROJECTOR, find_blocks, residuals_of_merges
from laco_export.exporter.external_data import graph_from_file


def test_blocks_of_the_tower_in_order(graph):
    blocks = find_blocks(graph)

    assert [block.region for block in blocks] == [BEFORE, BEFORE, MERGE, AFTER, AFTER, PROJECTOR]
    assert [len(block.linears) for block in blocks] == [7, 7, 2, 7, 7, 2]
    assert [block.linears[0].tokens for block in blocks] == [64, 64, 16, 16, 16, 16]
    assert len({linear.node for block in blocks for linear in block.linears}) == 32
    ((residual, region),) = residuals_of_merges(graph).items()
    assert residual.endswith("residual") and region == MERGE


def test_attention_is_found_with_the_length_of_its_sequence(graph):
    products = [[product.tokens for product in block.products] for block in find_blocks(graph)]
    assert products == [[64, 64], [64, 64], [], [16, 16], [16, 16], []]


@pytest.mark.parametrize("kind", ["siglip", "internvit"])
def test_other_encoders(kind, make_tiny_model, make_fp32_bundle):
    folder = make_fp32_bundle(make_tiny_model(kind, blocks=2, grid=(4, 4)))
    blocks = find_blocks(graph_from_file(folder / "vision_b1.onnx"))
    assert [(block.region, len(block.linears)) for block in blocks] == [
        (BEFORE, 6),
        (MERGE, 2),
        (AFTER, 6),
        (PROJECTOR, 2),
    ]
