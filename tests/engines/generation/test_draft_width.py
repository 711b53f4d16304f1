"""How many positions are read at once: what pays off, and what it may cost at worst."""

import pytest

from laco_engines.generation.draft_width import LEAST_SPEED, DraftWidth

INT4 = {1: 1.0, 2: 1.26, 4: 1.98, 8: 3.34}  # an int4 decoder on one core
FP32 = {1: 1.0, 2: 1.06, 4: 1.27, 8: 1.64, 16: 1.78}


def answer(width, accepted, steps=200, match=3):
    """An answer whose drafts have ``accepted(number of the draft)`` tokens right; the widths of its passes."""
    widths, done = [], 0
    while done < steps:
        width.count_step()
        widths.append(width.choose(match, steps - done))
        width.spend(widths[-1])
        right = min(accepted(len(widths)), widths[-1] - 1)
        for _ in range(right):
            width.count_step()
        if widths[-1] > 1:
            width.judge(match, right, widths[-1] - 1)
        done += 1 + right
    return widths


@pytest.mark.parametrize("costs", [INT4, FP32])
@pytest.mark.parametrize("steps", [1, 2, 7, 30, 1000])
def test_an_answer_whose_drafts_are_all_wrong_stays_at_the_promised_speed(costs, steps):
    """At each of its passes, not at its end alone."""
    width = DraftWidth(costs)
    for done in range(1, steps + 1):
        width.count_step()
        width.spend(chosen := width.choose(3, steps))
        width.judge(3, 0, chosen - 1)
        assert width.spent <= done / LEAST_SPEED
    assert width.passes == steps
    assert LEAST_SPEED > 0.97


def test_drafts_that_are_wrong_are_given_up_and_tried_again():
    widths = answer(DraftWidth(FP32), lambda _: 0, steps=600)
    tried = [number for number, width in enumerate(widths) if width > 1]
    assert 5 < len(tried) < 100
    assert max(tried) > 500


@pytest.mark.parametrize(("costs", "least_tokens_a_pass"), [(INT4, 4), (FP32, 10)])
def test_a_copy_is_read_in_the_longest_passes(costs, least_tokens_a_pass):
    widths = answer(DraftWidth(costs), lambda _: 99)
    assert widths.count(max(costs)) > len(widths) / 2
    assert 200 / len(widths) > least_tokens_a_pass


def test_the_width_is_what_pays_off():
    """Half of the tokens right: of two positions 1.5 come for 1.26; of eight, 2.0 for 3.34."""
    widths = answer(DraftWidth(INT4), lambda number: number % 2, steps=400)
    assert 8 not in widths[60:]
    assert widths[60:].count(2) > len(widths[60:]) / 3


def test_kinds_of_matches_are_judged_apart():
    width = DraftWidth(FP32)
    answer(width, lambda _: 0, match=2)
    answer(width, lambda _: 99, match=12)
    assert width.choose(12, 100) == 16
    assert width.choose(2, 100) == 1


def test_no_more_is_read_than_is_left():
    width = DraftWidth(FP32)
    answer(width, lambda _: 99)
    assert [width.choose(3, left) for left in (1, 2, 3, 7, 8, 15, 16)] == [1, 2, 2, 4, 8, 8, 16]
