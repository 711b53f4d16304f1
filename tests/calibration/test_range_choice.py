"""Which method cuts the ranges of each block."""

import pytest

from laco_calibration.statistics.thresholds import CANDIDATES


@pytest.fixture(scope="module")
def blocks_by_method(calibrated):
    """Method → the record's blocks: the same pictures and statistics, every block in eight bits."""
    return {method: calibrated(method=method, all_int8=True).record["blocks"] for method in ("auto", *CANDIDATES)}


def test_each_block_takes_the_method_that_costs_it_less(blocks_by_method):
    for index, block in enumerate(blocks_by_method["auto"]):
        costs = {method: blocks_by_method[method][index]["points"] for method in CANDIDATES}
        assert block["points"] == min(costs.values())
        assert costs[block["method"]] == block["points"]
    assert {block["method"] for block in blocks_by_method["auto"]} == set(CANDIDATES), "neither is best everywhere"


def test_a_method_that_is_asked_for_is_every_blocks(blocks_by_method):
    for method in CANDIDATES:
        assert {block["method"] for block in blocks_by_method[method]} == {method}


def test_the_graph_holds_the_ranges_that_were_chosen(calibrated, blocks_by_method):
    """The scales in the record, which are the file's, are those of each block's own method."""
    scales = {
        method: {
            linear["module"]: linear["scale"] for linear in calibrated(method=method, all_int8=True).record["linears"]
        }
        for method in ("auto", *CANDIDATES)
    }
    chosen = {block["name"]: block["method"] for block in blocks_by_method["auto"]}
    for module, scale in scales["auto"].items():
        block = next(name for name in chosen if module.startswith(name))
        assert scale == scales[chosen[block]][module]
    assert scales["mse"] != scales["max"]
