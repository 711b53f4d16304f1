"""What counts as measured before; the timer itself is bench's, and tested there and by commands/test_plan.py."""

import pytest

from laco_engines.plan.gauges import calibrated_ms
from laco_engines.plan.space import Candidate
from laco_export.machine import cpu_title, default_threads

from .tables import model


def record(**changes):
    series = {"milliseconds": 80.0, "spread": 0.01, "cpu_over_wall": 0.97 * default_threads(), "rejected": 0}
    return {"device": cpu_title(), "milliseconds": {"base": series, "eight_bit": {**series, **changes}}}


def candidate(calibration, *, threads=None, tiles=1, batch=1):
    whole = model("int8", precision="int8", batches=(1, 5), calibration=calibration)
    return Candidate(whole, batch, threads or default_threads(), tiles)


def test_a_calibration_on_this_processor_is_a_measurement():
    assert calibrated_ms(candidate(record())) == 80.0


@pytest.mark.parametrize(
    "other",
    [
        candidate(None),
        candidate({}),
        candidate({"device": None, "milliseconds": None}),
        candidate({**record(), "device": "another processor"}),
        candidate(record(cpu_over_wall=0.7 * default_threads())),
        candidate(record(), threads=default_threads() + 1),
        candidate(record(), tiles=5, batch=5),
    ],
    ids=["none", "empty", "not timed", "elsewhere", "busy", "threads", "batch"],
)
def test_another_is_not(other):
    assert calibrated_ms(other) is None
