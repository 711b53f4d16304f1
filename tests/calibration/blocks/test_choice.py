import pytest

from laco_calibration.blocks.block_errors import FeatureError
from laco_calibration.blocks.choice import BlockTime, choose_blocks


def _error(points: float) -> FeatureError:
    return FeatureError(1 - points / 100, 1.0)


def _sum_of(errors):
    """Errors that add up."""
    return lambda blocks: _error(sum(errors[name].points for name in blocks))


ERRORS = {name: _error(points) for name, points in {"a": 0.2, "b": 0.5, "c": 0.1, "d": 3.0}.items()}
FASTER = dict.fromkeys(ERRORS, BlockTime(2.0, 1.0))


def test_takes_all_where_the_whole_is_within():
    choice = choose_blocks(ERRORS, FASTER, 5.0, _sum_of(ERRORS))
    assert choice.blocks == ("a", "b", "c", "d")
    assert choice.error.points == pytest.approx(3.8)


def test_a_block_that_is_not_faster_stays():
    times = {**FASTER, "c": BlockTime(1.0, 1.2)}
    choice = choose_blocks(ERRORS, times, 5.0, _sum_of(ERRORS))
    assert "c" not in choice.blocks
    assert "not faster" in choice.reasons["c"]


def test_a_block_beyond_the_budget_stays_and_the_whole_is_measured():
    choice = choose_blocks(ERRORS, FASTER, 0.65, _sum_of(ERRORS))
    assert choice.error.points <= 0.65
    assert choice.blocks == ("b", "c") or choice.blocks == ("a", "c")
    assert "alone it drops 3" in choice.reasons["d"]
    assert set(choice.blocks) | set(choice.reasons) == set(ERRORS)


def test_what_gains_most_for_its_error_goes_first():
    times = {"a": BlockTime(10.0, 1.0), "b": BlockTime(2.0, 1.9), "c": BlockTime(2.0, 1.9), "d": BlockTime(2.0, 1.0)}
    choice = choose_blocks(ERRORS, times, 0.5, _sum_of(ERRORS))
    assert choice.blocks == ("a", "c")


def test_errors_that_add_up_worse_than_their_sum_are_caught_by_measuring():
    def measure(blocks):
        return _error(sum(ERRORS[name].points for name in blocks) * len(list(blocks)))

    choice = choose_blocks(ERRORS, FASTER, 0.7, measure)
    assert measure(choice.blocks).points <= 0.7


def test_nothing_is_chosen_where_nothing_fits():
    choice = choose_blocks(ERRORS, FASTER, 0.01, _sum_of(ERRORS))
    assert choice.blocks == () and choice.error is None


def test_without_times_accuracy_alone_decides():
    assert choose_blocks(ERRORS, None, 0.85, _sum_of(ERRORS)).blocks == ("a", "b", "c")


def test_what_is_not_finite_is_never_within():
    errors = {"a": FeatureError(float("nan"), 1.0), "b": _error(0.1)}
    assert choose_blocks(errors, None, 5.0, _sum_of(errors)).blocks == ("b",)
