"""Which of the depths that a checkpoint carries are asked for."""

import pytest

from laco_export.compression import CompressionConfig, asked_depths
from laco_export.errors import DepthError

CARRIED = CompressionConfig(depths=("1/2", "block:7", "1/4+3/4")).resolved(8)
UNMERGED = CompressionConfig(method=None).resolved(8)


@pytest.mark.parametrize(
    ("at", "depths"),
    [
        (None, ("1/2",)),
        ((), ("1/2",)),
        ("0.5", ("1/2",)),
        (["block:7", "1/2"], ("block:7", "1/2")),
        (["block:2+block:6"], ("1/4+3/4",)),
        ("all", ("1/2", "block:7", "1/4+3/4")),
    ],
    ids=str,
)
def test_depths_are_given_as_configured_in_the_order_asked_for(at, depths):
    assert CARRIED.find_all(at) == depths


def test_a_model_that_merges_nothing_has_no_depths():
    assert UNMERGED.find_all(None) == UNMERGED.find_all("all") == ()
    with pytest.raises(DepthError):
        UNMERGED.find_all("1/2")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (["1/2", "block:4"], "twice"),
        (["1/2", "all"], "alone"),
        (["1/2", "half"], "half"),
        (["1/2", "1"], "not trained"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(at, message):
    with pytest.raises(DepthError, match=message):
        CARRIED.find_all(at)


def test_one_depth_is_as_good_as_a_list_of_one():
    assert asked_depths("1/2") == asked_depths(["1/2"]) == ("1/2",)
