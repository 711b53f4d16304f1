from itertools import combinations

import pytest

from laco_engines.attribution.losses import Loss
from laco_engines.attribution.shares import REST, TOTAL, PartLosses, largest_share, share_out

PARTS = ["a", "b", "c"]


def shared(value_of, runs_at=None):
    """What is shared out where a set of parts loses ``value_of(set)``."""
    every = frozenset(PARTS)
    loss = lambda parts: Loss(answer=value_of(frozenset(parts)), squared_error=2 * value_of(frozenset(parts)))
    losses = PartLosses(
        base=loss([]),
        whole=loss(every),
        alone={part: loss([part]) for part in PARTS},
        back={part: loss(every - {part}) for part in PARTS},
        as_it_runs=None if runs_at is None else Loss(answer=runs_at),
    )
    return {row.part: row for row in share_out(PARTS, losses, "runtime")}


def shapley(value_of, part):
    """By its definition: the mean of what a part adds, over all orders."""
    others = [other for other in PARTS if other != part]
    adds = lambda before: value_of(frozenset([*before, part])) - value_of(frozenset(before))
    by_size = [[adds(before) for before in combinations(others, size)] for size in range(len(PARTS))]
    return sum(sum(added) / len(added) for added in by_size) / len(PARTS)


def pairwise(parts):
    each = {"a": 0.1, "b": 0.2, "c": 0.0}
    pairs = {frozenset("ab"): 0.3, frozenset("bc"): -0.1}
    return 0.05 + sum(each[part] for part in parts) + sum(value for pair, value in pairs.items() if pair <= parts)


def test_independent_parts_have_what_they_lose_and_nothing_is_left():
    rows = shared(lambda parts: 0.1 * len(parts))
    assert [rows[part].share.answer for part in PARTS] == pytest.approx([0.1] * 3)
    assert rows[REST].share.answer == pytest.approx(0)
    assert rows[TOTAL].share.answer == pytest.approx(0.3)
    assert rows[TOTAL].share.squared_error == pytest.approx(0.6)


def test_parts_that_act_in_pairs_have_shapleys_values():
    rows = shared(pairwise)
    assert [rows[part].share.answer for part in PARTS] == pytest.approx([shapley(pairwise, part) for part in PARTS])
    assert rows["a"].alone.answer == pytest.approx(0.1) and rows["a"].won_back.answer == pytest.approx(0.4)
    assert rows[REST].share.answer == pytest.approx(0)
    assert rows[TOTAL].share.answer == pytest.approx(0.5), "what the reference loses against itself is no part's"


def test_what_three_do_together_is_the_rest():
    rows = shared(lambda parts: float(len(parts) == 3))
    assert [rows[part].share.answer for part in PARTS] == pytest.approx([0.5] * 3)
    assert rows[REST].share.answer == pytest.approx(-0.5)
    assert rows[REST].alone is None and rows[REST].won_back is None


def test_what_the_runtime_adds_is_a_part():
    rows = shared(lambda parts: 0.1 * len(parts), runs_at=0.7)
    assert list(rows) == [*PARTS, "runtime", REST, TOTAL]
    assert rows["runtime"].share.answer == pytest.approx(0.4)
    assert rows[TOTAL].share.answer == pytest.approx(0.7)


def test_a_part_that_is_the_same_has_no_share_and_was_not_run():
    rows = share_out(["a", "b"], PartLosses(Loss(), Loss(answer=1), {"a": Loss(answer=1)}, {"a": Loss()}))
    assert [(row.part, row.share.answer) for row in rows] == [("a", 1), ("b", 0), (REST, 0), (TOTAL, 1)]


def test_the_cause_is_the_largest_share_and_none_where_nothing_was_lost():
    rows = share_out(["a", "b"], PartLosses(Loss(), Loss(logprob=1), {"b": Loss(logprob=1)}, {"b": Loss()}))
    assert largest_share(rows).part == "b"
    assert largest_share(share_out(["a"], PartLosses(Loss(), Loss(), {}, {}))) is None
    together = PartLosses(Loss(), Loss(answer=1), {"a": Loss()}, {"a": Loss(answer=1)})
    assert largest_share(share_out(["a"], together)) is None, "the rest and the whole are no parts"


def test_numbers_for_a_document():
    rows = shared(pairwise)
    total = rows[TOTAL].share
    document = {part: row.to_dict(total) for part, row in rows.items()}
    assert document["a"]["points"] == pytest.approx(25) and document["a"]["alone"]["points"] == pytest.approx(10)
    assert document["a"]["feature_error"] == pytest.approx(0.2**0.5)
    assert sum(document[part]["feature_share"] for part in (*PARTS, REST)) == pytest.approx(1)
    assert document[REST]["feature_error"] is None and document[TOTAL]["is_total"]
    assert rows["a"].to_dict(Loss())["feature_share"] is None
