import argparse

import pytest

from laco_engines.commands.quantities import points_limit, size_limit, time_limit


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("150ms", 150), ("0.2s", 200), ("800us", 0.8), ("2 min", 120000), (" 1.5S ", 1500)]
)
def test_times(text, milliseconds):
    assert time_limit(text) == pytest.approx(milliseconds)


@pytest.mark.parametrize(("text", "size"), [("512M", 512 << 20), ("2.5G", 5 << 29), ("1 kib", 1024), ("7b", 7)])
def test_sizes(text, size):
    assert size_limit(text) == size


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (time_limit, "150", "has no unit: give it as 150ms or 150s"),
        (time_limit, "0ms", "no time at all"),
        (time_limit, "-5ms", "is negative"),
        (time_limit, "nan", "is not a time"),
        (time_limit, "infs", "is not a time"),
        (time_limit, "5 hours", "is not a time"),
        (time_limit, "", "is not a time"),
        (size_limit, "2500000000", "has no unit"),
        (size_limit, "0G", "no memory at all"),
        (size_limit, "-1G", "is negative"),
        (size_limit, "nanG", "is not a size"),
        (points_limit, "-1", "from 0 to 100"),
        (points_limit, "nan", "from 0 to 100"),
        (points_limit, "101", "from 0 to 100"),
        (points_limit, "1%", "from 0 to 100"),
    ],
)
def test_what_is_no_quantity_is_told(read, text, says):
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        read(text)


def test_no_points_may_be_lost():
    assert points_limit("0") == 0
