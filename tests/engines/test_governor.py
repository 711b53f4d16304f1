"""The governor: which depth under which load, and that a recorded trace of moments gives the same choices again."""

import dataclasses

import pytest

from laco_engines.governor import Governor, GovernorRules, Moment
from laco_export.errors import UsageError

from ..laco_export.test_carried_depths import FIRST, QUARTER, TWICE

FLOPS = {"1/4": 40.0, "1": 100.0, "1/2": 62.0}
TIMES = {"1": 100.0, "1/2": 62.0, "1/4": 40.0}  # ms to encode; 20 more to prefill, 80 to decode


def governor(timed=tuple(TIMES), **rules) -> Governor:
    """One that has timed an answer at each depth of ``timed``."""
    made = Governor(FLOPS, GovernorRules(**rules))
    for depth in timed:
        made.observe(depth, encode_ms=TIMES[depth], prefill_ms=20, decode_ms=80)
    return made


def depths(made: Governor, moments) -> list[str]:
    return [made.choose(moment).depth for moment in moments]


def waiting(*ahead: str, at_s: float = 0.0, **further) -> Moment:
    return Moment(at_s, ahead, **further)


def test_the_ladder_is_by_operations():
    assert governor(deadline_ms=1).ladder == ("1", "1/2", "1/4")


@pytest.mark.parametrize(
    ("moment", "depth", "predicted"),
    [
        (waiting(), "1", 120),
        (waiting("1"), "1", 320),  # it ends at 400, and the next one could begin its answer at 460
        (waiting("1", "1/4", running_ms=65), "1/2", 357),  # 275 ahead: the next at 497, by the most accurate at 535
        (waiting("1", "1/4", running_ms=60), "1/4", 340),  # the next at 502
        (waiting("1", "1/4", running_ms=65, waited_ms=10), "1/2", 367),
        (waiting("1", "1/4", running_ms=65, waited_ms=150), "1/4", 485),  # 507 by the one above
        (waiting("1", "1", "1"), "1/4", 660),  # nothing meets it: the fastest comes closest
    ],
    ids=str,
)
def test_the_most_accurate_depth_that_meets_the_deadline(moment, depth, predicted):
    choice = governor(deadline_ms=500).choose(moment)
    assert (choice.depth, choice.predicted_ms) == (depth, pytest.approx(predicted))


def test_a_depth_that_was_not_timed_is_estimated_by_its_operations():
    choice = governor(timed=("1",), deadline_ms=230).choose(waiting())
    assert (choice.depth, choice.predicted_ms) == ("1/2", pytest.approx(62 + 20))


def test_nothing_is_predicted_before_anything_was_timed():
    made = governor(timed=(), deadline_ms=1)
    assert (made.choose(waiting("1")).depth, made.choose(waiting()).predicted_ms) == ("1", None)
    made.observe("1", encode_ms=0, prefill_ms=5, decode_ms=5)  # its picture was known: that says nothing of the tower
    assert made.choose(waiting()).predicted_ms is None


def test_estimates_follow_what_is_measured():
    made = governor(deadline_ms=300)
    assert made.choose(waiting()).depth == "1"
    for _ in range(10):
        made.observe("1", encode_ms=300, prefill_ms=20, decode_ms=80)
    assert made.choose(waiting()).depth == "1/2"


@pytest.mark.parametrize(
    "slow", [{"encode_ms": 2000, "prefill_ms": 20}, {"encode_ms": 100, "prefill_ms": 2000}], ids=str
)
def test_one_slow_answer_does_not_keep_a_depth_out_for_good(slow):
    """Of sixteen pictures, or of a long prompt: the depth is left, and so its time is not measured again."""
    made = governor(deadline_ms=400)
    made.observe("1", decode_ms=80, **slow)
    chosen = []
    for _ in range(60):
        chosen.append(made.choose(waiting()).depth)
        made.observe(chosen[-1], encode_ms=TIMES[chosen[-1]], prefill_ms=20, decode_ms=80)
    assert chosen[0] != "1" and set(chosen[50:]) == {"1"}


def test_it_goes_down_at_once_and_up_one_rung_after_calm_requests():
    made = governor(deadline_ms=425, calm=3)
    busy, calm = waiting("1", "1", "1"), waiting()
    assert depths(made, [calm, busy]) == ["1", "1/4"]
    assert depths(made, [calm] * 6) == ["1/4", "1/4", "1/2", "1/2", "1/2", "1"]
    assert depths(made, [busy, calm, calm, busy, calm, calm, calm]) == ["1/4"] * 6 + ["1/2"]


def test_it_does_not_go_up_where_the_higher_rung_would_only_just_do():
    """At 260 of 300 ms it would be sent down by the next answer that is a little slower."""
    made = governor(deadline_ms=300)
    assert depths(made, [waiting("1"), *[waiting()] * 8]) == ["1/4"] * 3 + ["1/2"] * 6
    assert governor(deadline_ms=300).choose(waiting()).depth == "1"


def test_the_queue_alone_can_choose():
    made = Governor(FLOPS, GovernorRules(waiting_per_step=2, calm=1))
    ahead = [("1",) * count for count in (0, 1, 2, 3, 4, 9, 2, 1, 0, 0)]
    chosen = depths(made, [Moment(0.0, names) for names in ahead])
    assert chosen == ["1", "1", "1/2", "1/2", "1/4", "1/4", "1/2", "1", "1", "1"]
    every = Governor(FLOPS, GovernorRules(waiting_per_step=1, calm=2))
    assert depths(every, [Moment(0.0, names) for names in (("1",), (), (), ())]) == ["1/2", "1/2", "1", "1"]


def test_what_is_watched_steps_down_in_its_own_time():
    made = Governor(FLOPS, GovernorRules(limits=(70.0, 12.0), settle_s=10, calm=1))
    readings = [
        (0, (60.0, 9.0), "1"),
        (1, (71.0, 9.0), "1/2"),  # too hot
        (5, (75.0, 9.0), "1/2"),  # a board cools slowly
        (12, (75.0, 9.0), "1/4"),
        (40, (75.0, 9.0), "1/4"),  # there is nothing lower
        (60, (65.0, 11.5), "1/4"),  # below its limit, and not far below
        (61, (50.0, 13.0), "1/4"),  # the other one is above its own
        (80, (50.0, 9.0), "1/2"),
        (81, (50.0, 9.0), "1/2"),
        (95, (50.0, None), "1"),  # a sensor that does not answer says nothing
        (120, (None, None), "1"),
    ]
    moments = [Moment(at_s, values=values) for at_s, values, _ in readings]
    assert depths(made, moments) == [depth for _, _, depth in readings]


def test_rules_together_take_the_lowest_rung():
    made = governor(deadline_ms=425, waiting_per_step=1, limits=(70.0,))
    assert made.choose(waiting("1/4", values=(50.0,))).depth == "1/2"
    choice = made.choose(waiting("1", "1", "1", values=(50.0,)))
    assert choice.depth == "1/4" and "ahead" in choice.reason


def test_a_recorded_trace_gives_the_same_choices_again():
    ahead = [("1",) * min(count // 12 % 5, 3) for count in range(60)]
    moments = [waiting(*names, at_s=count, values=(60.0 + count % 17,)) for count, names in enumerate(ahead)]
    rules = {"deadline_ms": 425, "limits": (70.0,), "settle_s": 5}
    first, again = (depths(governor(**rules), moments) for _ in range(2))
    assert first == again and set(first) == set(FLOPS)


@pytest.mark.parametrize(
    "rules",
    [{}, {"deadline_ms": 0}, {"deadline_ms": float("nan")}, {"waiting_per_step": -1}, {"limits": (0.0,)}],
    ids=str,
)
def test_rules_that_say_nothing_are_refused(rules):
    with pytest.raises(UsageError):
        GovernorRules(**rules)


def test_the_depths_are_a_bundles():
    rules = GovernorRules(deadline_ms=100)
    assert Governor.of_manifest(FIRST.joined_with([QUARTER, TWICE]), rules).ladder == ("1/2", "1/4", "1/4+3/4")
    with pytest.raises(UsageError, match="laco-export --at all"):
        Governor.of_manifest(dataclasses.replace(FIRST), rules)
