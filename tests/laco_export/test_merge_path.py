"""Paths of merges: which strings are one, which blocks and ratios they name, and which have no whole window."""

import pytest

from laco_export.errors import ConfigError, DepthError
from laco_export.merge_path import DepthPath, MergePath, ratios_of_paths, shortest_ratio


@pytest.mark.parametrize(
    ("text", "num_blocks", "blocks"),
    [
        ("1/2", 24, (12,)),
        ("1/4+3/4", 24, (6, 18)),
        (" 0.25 + block:18 ", 24, (6, 18)),
        ("1/12+1/2+1", 24, (2, 12, 24)),
        ("1/6+1/2", 27, (5, 14)),  # both are ties
    ],
)
def test_a_path_resolves_to_rising_blocks(text, num_blocks, blocks):
    assert DepthPath.parse(text).resolve(num_blocks) == blocks


@pytest.mark.parametrize("text", ["", "1/4+", "+1/2", "1/4,3/4", "1/4+2", "1/4+banana"])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(DepthError) as refused:
        DepthPath.parse(text)
    assert refused.value.given == (f"the path {text}" if "+" in text else None)


@pytest.mark.parametrize("text", ["3/4+1/4", "1/2+1/2", "1/2+block:12", "1/100+1/50"])
def test_merges_stand_one_behind_the_other(text):
    with pytest.raises(DepthError, match="a later block than the one before it") as refused:
        DepthPath.parse(text).resolve(24)
    assert "of 24" in refused.value.given


def test_names():
    path = DepthPath.parse("0.25+block:18")
    assert (str(path), path.slug) == ("1/4+block:18", "1_4+block18")
    assert MergePath((12,), (2,)).module_names == ("block_12",)
    assert MergePath((6, 18), (2, 3)).module_names == ("path_6_18.block_6", "path_6_18.block_18")
    assert str(MergePath((12,), (2,))) == "after block 12"
    assert str(MergePath((6, 18), (2, 3))) == "2 x 2 after block 6, 3 x 3 after block 18"


def test_a_path_is_asked_for_by_its_fractions_or_its_blocks():
    path, text = MergePath((6, 18), (2, 2)), "1/4+3/4"
    for asked in ("1/4+3/4", "0.25+0.75", "block:6+block:18", "1/4+block:18"):
        assert DepthPath.parse(asked).names(path, text)
    for other in ("1/4", "3/4+1/4", "1/4+1/2", "block:6", "1/4+3/4+1", "6/25+3/4"):
        assert not DepthPath.parse(other).names(path, text)


@pytest.mark.parametrize(
    ("ratio", "lengths", "each"),
    [
        (2, [1, 2], ((2,), (2, 2))),
        ("3", [2], ((3, 3),)),
        ("2+3", [2, 2], ((2, 3), (2, 3))),
        ([4, "2+2"], [1, 2], ((4,), (2, 2))),
        (("2+3", 3), [2, 2], ((2, 3), (3, 3))),
    ],
)
def test_ratios_by_path_and_merge(ratio, lengths, each):
    assert ratios_of_paths(ratio, lengths, field="ratio") == each
    assert ratios_of_paths(shortest_ratio(each), lengths, field="ratio") == each


def test_ratios_are_written_as_briefly_as_they_can_be():
    assert shortest_ratio([(2,), (2, 2)]) == 2
    assert shortest_ratio([(2, 3)]) == "2+3"
    assert shortest_ratio([(2, 3), (2, 3)]) == "2+3"
    assert shortest_ratio([(4,), (2, 2)]) == (4, 2)
    assert shortest_ratio([(2, 3), (3, 3)]) == ("2+3", 3)


@pytest.mark.parametrize(
    ("ratio", "lengths", "message"),
    [
        (5, [1], "ratio is not supported"),
        (1, [2], "ratio is not supported"),
        ("2+5", [2], "ratio is not supported"),
        ("two", [1], "ratio is not supported"),
        ("2+", [2], "ratio is not supported"),
        (2.0, [1], "ratio is not supported"),
        (True, [1], "ratio is not supported"),
        (None, [1], "ratio is not supported"),
        ([[2]], [1], "ratio is not supported"),
        ("2+3", [1], "one number for each merge"),
        ("2+3+2", [2], "one number for each merge"),
        ([2, 2], [1], "one entry for each path"),
        ([], [1], "one entry for each path"),
    ],
)
def test_wrong_ratios_are_refused(ratio, lengths, message):
    with pytest.raises(ConfigError, match=message):
        ratios_of_paths(ratio, lengths, field="ratio")


@pytest.mark.parametrize(
    ("ratios", "grid", "grids"),
    [
        ((2,), (24, 24), [(24, 24), (12, 12)]),
        ((2, 3), (24, 24), [(24, 24), (12, 12), (4, 4)]),
        ((2, 2), (27, 27), [(27, 27), (14, 14), (7, 7)]),
        ((2, 3), (9, 7), [(9, 7), (5, 4), (2, 2)]),
        ((), (4, 5), [(4, 5)]),
    ],
)
def test_each_merge_rounds_up(ratios, grid, grids):
    path = MergePath(tuple(range(1, 1 + len(ratios))), ratios)
    assert path.grids(grid) == grids
    # Rounding up again and again is rounding up once.
    assert grids[-1] == tuple(-(-side // path.total_ratio) for side in grid)


def test_a_path_without_a_whole_window_is_told_grid_by_grid():
    with pytest.raises(ConfigError, match="merge 3 of a path has no whole window") as refused:
        MergePath((1, 2, 3), (4, 2, 3)).grids((12, 16))
    assert "12 x 16 → 3 x 4 → 2 x 2, then windows of 3 x 3: ratio 4+2+3" in refused.value.given


def test_the_same_merges_at_the_end():
    assert MergePath((6, 18), (2, 3)).at_last(24) == MergePath((24, 24), (2, 3))
