"""The intervals against figures that were computed elsewhere, and what they must hold."""

import math

import pytest

from laco_engines.score_intervals import paired_interval, share_interval


def wilson_by_its_definition(count, of):
    """The shares p whose score statistic |count/of - p| / sqrt(p (1 - p) / of) is 1.96: by bisection."""
    z, share = 1.959963984540054, count / of
    score = lambda p: abs(share - p) / math.sqrt(p * (1 - p) / of)

    def edge(inside, outside):
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if score(middle) < z else (inside, middle)
        return inside

    tiny = 1e-15
    return edge(min(max(share, tiny), 1 - tiny), tiny), edge(min(max(share, tiny), 1 - tiny), 1 - tiny)


@pytest.mark.parametrize(("count", "of"), [(81, 263), (15, 148), (1, 2), (97, 100), (299, 300)])
def test_wilsons_interval_solves_its_equation(count, of):
    interval = share_interval(count, of)
    assert (interval.low, interval.high) == pytest.approx(wilson_by_its_definition(count, of), abs=1e-9)
    assert interval.value == count / of


@pytest.mark.parametrize(
    ("count", "of", "ends"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilsons_interval_is_newcombes_table(count, of, ends):
    """Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3."""
    interval = share_interval(count, of)
    assert (interval.low, interval.high) == pytest.approx(ends, abs=5e-5)


@pytest.mark.parametrize("of", [1, 7, 300])
def test_of_all_and_of_none_the_interval_ends_there(of):
    assert (share_interval(0, of).low, share_interval(of, of).high) == (0.0, 1.0)
    assert 0 < share_interval(0, of).high < 1 and 0 < share_interval(of, of).low < 1


def test_a_paired_change_is_bonett_and_prices():
    """By hand: 3 gained and 9 lost of 100 questions."""
    interval = paired_interval(gained=3, lost=9, of=100)
    up, down = 4 / 102, 10 / 102
    half = 1.959963984540054 * math.sqrt((up + down - (up - down) ** 2) / 102)
    assert interval.value == pytest.approx(-0.06)
    assert (interval.low, interval.high) == pytest.approx((up - down - half, up - down + half))


def test_a_paired_change_holds_its_value_and_is_symmetric():
    for of in (1, 5, 40, 300):
        for lost in {0, 1, of // 2, of}:
            for gained in {0, 1, of - lost} - {of + 1}:
                if gained + lost > of:
                    continue
                there = paired_interval(gained=gained, lost=lost, of=of)
                back = paired_interval(gained=lost, lost=gained, of=of)
                assert -1 <= there.low <= there.value <= there.high <= 1
                assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_a_paired_change_covers_the_truth_as_often_as_it_says():
    """Over all outcomes of 60 questions of which 3 % are gained and 6 % lost: an exact sum, not a simulation."""
    of, up, down = 60, 0.03, 0.06
    covered = 0.0
    for gained in range(of + 1):
        for lost in range(of + 1 - gained):
            ways = math.factorial(of) // (
                math.factorial(gained) * math.factorial(lost) * math.factorial(of - gained - lost)
            )
            chance = ways * up**gained * down**lost * (1 - up - down) ** (of - gained - lost)
            interval = paired_interval(gained=gained, lost=lost, of=of)
            covered += chance * (interval.low <= up - down <= interval.high)
    assert 0.94 < covered < 0.985


@pytest.mark.parametrize(("count", "of"), [(1, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(count, of):
    with pytest.raises(ValueError):
        share_interval(count, of)
