"""The search against brute force on a table whose true figures are assessed, and what it may not assume."""

from itertools import product

import pytest

from laco_engines.plan.limits import Limits, Quantity, misses
from laco_engines.plan.search import ANSWERS, MEMORY, TIME, Search

from .tables import TableGauge, TableQuality, gflop_of, model, space

ENCODE = Quantity("encode")
DEPTHS = {"1": 390, "1/2": 242, "1/4": 168, "1/6": 143, "1/12": 118}
"""GFLOP of AIMv2-L/336 by depth."""
SPEED = {"fp32": 2.0, "fp16": 1.0, "int8": 0.6}
"""Of a GFLOP: INT8 gains less than half."""
LOST = {"1": 0.0, "1/2": 0.7, "1/4": 0.5, "1/6": 3.0, "1/12": 6.0}
"""Not in the order of depth."""


def models(batches=(1, 5)):
    return [
        model(f"{depth} {precision} {llm}", precision=precision, gflop=gflop, llm=llm, depth=depth, batches=batches)
        for (depth, gflop), precision, llm in product(DEPTHS.items(), SPEED, ("fp32", "int4"))
    ]


def encode_ms(candidate):
    """One and a half times as fast on two threads, a fifth faster in batches of five, a constant for every call."""
    each = DEPTHS[candidate.model.depth] * SPEED[candidate.model.precision] / (1.5 if candidate.threads == 2 else 1)
    return sum(1.0 + batch * each * (0.8 if batch == 5 else 1) for batch in candidate.runs)


def prefill_ms(candidate):
    return (60.0 if candidate.model.language_model == "int4" else 120.0) / candidate.threads


def points_lost(each):
    return LOST[each.depth] + (0.3 if each.precision == "int8" else 0) + (0.4 if each.language_model == "int4" else 0)


def gigabytes(candidate):
    return {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}[candidate.model.precision] + candidate.batch / 10


def truth(candidates, quantity, limits, prefer, gauge, quality):
    """The best candidate by looking at all figures."""
    keys = []
    for each in candidates:
        encode, text = gauge.measure(each, encode=True, text=True)
        time, memory = quantity.of(encode, text), gauge.memory(each)
        lost = quality.points[each.model.name] if quality else 0.0
        drop = quality.drop(each.model) if quality else None
        if misses(limits, time, memory, drop):
            continue
        values = {ANSWERS: lost, TIME: time.value, MEMORY: memory.value}
        keys.append(([values[prefer], *(values[name] for name in (ANSWERS, TIME, MEMORY) if name != prefer)], each))
    return min(keys, key=lambda key: key[0], default=(None, None))


def value_of(assessed, prefer):
    return {ANSWERS: assessed.drop and assessed.drop.value, TIME: assessed.time.value, MEMORY: assessed.memory.value}[
        prefer
    ]


FLOORS = {"fp32": 0.75, "fp16": 0.6, "int8": 0.4}
"""Of the true time."""
BUDGETS = (150, 250, 400, 700, 1200)
"""Milliseconds: from none that fits to nearly all."""


@pytest.mark.parametrize("prefer", [ANSWERS, TIME, MEMORY])
def test_the_choice_is_the_true_best(prefer):
    """For budgets with and without a limit of points and of memory, on one tile."""
    candidates = space(models(batches=(1,)), threads=(1, 2))
    points = {each.model.name: points_lost(each.model) for each in candidates}
    figures = {"prefill_ms": prefill_ms, "token_ms": lambda each: prefill_ms(each) / 10, "bytes_of": gigabytes}
    quantities = (ENCODE, Quantity("answer", 20))
    for quantity, budget, most_lost, memory in product(quantities, (None, 200), (None, 1.0), (None, 2.3)):
        limits = Limits(budget, memory, most_lost)
        gauge, quality = TableGauge(encode_ms, **figures), TableQuality(candidates[0].model, points)
        search = Search(candidates, quantity, limits, gauge, quality, prefer)
        chosen = search.best(search.run())
        everything = TableQuality(candidates[0].model, points)
        key, _ = truth(candidates, quantity, limits, prefer, TableGauge(encode_ms, **figures), everything)
        assert (chosen is None) == (key is None), limits
        if key is not None:
            assert value_of(chosen, prefer) == pytest.approx(key[0]), limits
            if prefer != MEMORY:  # whose ties are broken by arithmetic where memory is not weighed
                assert [value_of(chosen, name) for name in (ANSWERS, TIME)] == pytest.approx(sorted_by(prefer, key))


def sorted_by(prefer, key):
    return key[:2] if prefer == ANSWERS else [key[1], key[0]]


@pytest.mark.parametrize("budget", BUDGETS)
def test_it_takes_at_most_a_third_of_the_space(budget):
    candidates = space(models(), threads=(1, 2), tiles=5)
    points = {each.model.name: points_lost(each.model) for each in candidates}
    gauge = TableGauge(encode_ms, prefill_ms=prefill_ms, floor=lambda each: FLOORS[each.model.precision])
    quality = TableQuality(candidates[0].model, points, known=True)
    search = Search(candidates, Quantity(), Limits(budget), gauge, quality, ANSWERS)
    search.run()
    assert len(candidates) == 120
    assert len(gauge.measured) == len(set(gauge.measured)) <= 40


def test_the_bounds_of_what_was_not_measured_hold():
    candidates = space(models(), threads=(2,), tiles=5)
    gauge = TableGauge(encode_ms, prefill_ms=prefill_ms)
    quality = TableQuality(candidates[0].model, {each.model.name: points_lost(each.model) for each in candidates})
    assessed = Search(candidates, Quantity(), Limits(400), gauge, quality, ANSWERS).run()
    unmeasured = [each for each in assessed if not each.encode.is_known]
    assert len(unmeasured) > 20
    assert all(each.encode.low <= encode_ms(each.candidate) <= each.encode.high for each in unmeasured)
    by_others = [each for each in unmeasured if each.encode.low > 0.5 * encode_ms(each.candidate)]
    assert by_others, "what was measured of smaller ones says more than a floor"


def test_fewer_bits_are_not_taken_for_faster():
    """INT8 that is slower than FP16 is measured, and not chosen."""
    slow = {"fp16": 100.0, "int8": 140.0}
    candidates = space([model(name, precision=name) for name in slow])
    gauge = TableGauge(lambda each: slow[each.model.precision])
    search = Search(candidates, ENCODE, Limits(), gauge, None, TIME)
    assert search.best(search.run()).candidate.model.precision == "fp16"


def test_fewer_operations_of_another_kind_bound_nothing():
    """Eight bits in one block of a tower that merges early, and in all of one that merges late and is faster."""
    mixed = {"early": {"fp32": 90, "int8": 10}, "late": {"int8": 150}}
    true = {"early": 95.0, "late": 75.0}
    candidates = space([model(name, precision="int8", gflop=sum(mixed[name].values())) for name in mixed])
    gauge = TableGauge(lambda each: true[each.model.name], counted=lambda each: mixed[each.model.name])
    search = Search(candidates, ENCODE, Limits(), gauge, None, TIME)
    assert search.best(search.run()).candidate.model.name == "late"


def test_a_deeper_merge_is_not_taken_for_a_better_one():
    models = [model("early", gflop=100, depth="1/4"), model("late", gflop=200, depth="1")]
    quality = TableQuality(models[0], {"early": 0.0, "late": 5.0})
    gauge = TableGauge(lambda each: float(gflop_of(each.model)))
    search = Search(space(models), ENCODE, Limits(500), gauge, quality, ANSWERS)
    assert search.best(search.run()).candidate.model.name == "early"


def test_who_cannot_be_in_time_is_not_asked():
    models = [model("in time", gflop=100), model("late", gflop=400), model("later", gflop=800)]
    quality = TableQuality(models[2], {"in time": 2.0, "late": 1.0, "later": 0.0})
    gauge = TableGauge(lambda each: float(gflop_of(each.model)), floor=lambda each: 0.9)
    search = Search(space(models), ENCODE, Limits(150), gauge, quality, ANSWERS)
    assert search.best(search.run()).candidate.model.name == "in time"
    assert [each.name for each in quality.questions] == ["in time"]
    assert "later" not in [each.model.name for each in gauge.measured], "more operations than one that is late"


def test_better_ones_come_with_the_limit_that_they_miss():
    models = [model("in time", gflop=100), model("late", gflop=300), model("heavy", gflop=90), model("bad", gflop=400)]
    quality = TableQuality(models[1], {"in time": 2.0, "late": 0.0, "heavy": 1.0, "bad": 9.0}, known=True)
    gauge = TableGauge(
        lambda each: float(gflop_of(each.model)),
        bytes_of=lambda each: 8.0 if each.model.name == "heavy" else 2.0,
    )
    search = Search(space(models), ENCODE, Limits(150, 4.0), gauge, quality, ANSWERS)
    assessed = search.run()
    failing = search.better(assessed, search.best(assessed))
    assert [(each.candidate.model.name, each.misses[0].limit) for each in failing] == [
        ("late", "--budget"),
        ("heavy", "--memory"),
    ]


def test_graphs_that_two_bundles_share_are_measured_once():
    models = [model("same", llm="int4"), model("same", llm="fp32")]
    gauge = TableGauge(lambda each: 100.0, prefill_ms=prefill_ms)
    Search(space(models), ENCODE, Limits(), gauge, None, TIME).run(everything=True)
    assert len(gauge.measured) == 1


def test_everything_is_known_where_everything_is_asked_for():
    candidates = space(models(), threads=(1, 2), tiles=5)
    gauge = TableGauge(encode_ms, prefill_ms=prefill_ms)
    assessed = Search(candidates, Quantity(), Limits(330), gauge, None, TIME).run(everything=True)
    assert all(each.time.is_measured for each in assessed)
