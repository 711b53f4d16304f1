"""Depths: which strings are one, and which block they name."""

import pytest

from laco_export.depth import Depth
from laco_export.errors import DepthError


@pytest.mark.parametrize(
    "text, blocks, expected",
    [
        ("1/2", 24, 12),
        ("1/2", 27, 14),  # a tie: 13.5 goes up
        ("1/6", 27, 5),  # a tie: 4.5 goes up, where Python's round gives 4
        ("1/4", 24, 6),
        ("1/12", 24, 2),
        ("0.25", 24, 6),
        ("1", 24, 24),
        ("1/100", 24, 1),  # at least one block
        ("block:7", 24, 7),
        (" 1/2 ", 4, 2),
        ("2/4", 4, 2),
    ],
)
def test_a_depth_resolves_to_a_block(text, blocks, expected):
    assert Depth.parse(text).resolve(blocks) == expected


@pytest.mark.parametrize("text", ["1/0", "2", "0", "-1/2", "banana", "", "block:0", "block:-1", "block:", "nan", "inf"])
def test_what_is_no_depth_is_refused_with_what_is(text):
    with pytest.raises(DepthError) as caught:
        Depth.parse(text)
    assert "block:7" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_block_beyond_the_encoder_is_refused():
    assert Depth.parse("block:24").resolve(24) == 24
    with pytest.raises(DepthError, match="beyond the encoder's last block"):
        Depth.parse("block:25").resolve(24)


def test_names():
    assert str(Depth.parse("2/4")) == "1/2"
    assert str(Depth.parse("0.25")) == "1/4"
    assert Depth.parse("1/2").slug == "1_2"
    assert str(Depth.parse("block:7")) == "block:7"
    assert Depth.parse("block:7").slug == "block7"
    assert Depth.parse("1/2") == Depth.parse("0.5")
    depth = Depth.parse("1/2")
    assert Depth.parse(depth) is depth
