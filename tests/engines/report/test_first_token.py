"""Times by part over the answers that count, and the floors under them."""

import pytest

from laco_engines.cost.graph_cost import GraphCost
from laco_engines.devices.host_peaks import HostPeaks
from laco_engines.report import first_token
from laco_engines.report.first_token import FloorMeter, answer_times
from laco_export.errors import UsageError


def test_medians_are_of_answers_that_were_not_stalled(make_asked, make_answer):
    records = [make_answer("ab", encode_ms=value) for value in (2.0, 90.0, 4.0, 3.0)]
    asked = make_asked("a", [UsageError("too long"), *records], cpu_ratios=[1.0, 0.3, 1.0, 1.0])
    times = answer_times(asked)
    assert (times.encode_ms, times.preprocess_ms, times.prefill_ms) == (3.0, 1.0, 4.0)
    assert times.first_token_ms == 8.0
    assert times.first_token_p95_ms == pytest.approx(8.9)
    assert (times.counted, times.stalled, times.prompt_tokens) == (3, 1, 20)


def test_what_was_asked_does_not_depend_on_what_was_stalled(make_asked, make_answer):
    records = [make_answer("ab", tiles=tiles) for tiles in (1, 5, 5, 1, 5)]
    times = [answer_times(make_asked("a", records, cpu_ratios=ratios)) for ratios in ([1.0] * 5, [1, 0.3, 0.3, 1, 1])]
    assert [one.tiles for one in times] == [5, 5]


def test_tokens_a_second_are_of_all_tokens_over_all_their_time(make_asked, make_answer):
    records = [
        make_answer("", list(range(11)), rate=100.0),
        make_answer("", list(range(3)), rate=10.0),
        make_answer("a"),
    ]
    assert answer_times(make_asked("a", records)).tokens_per_s == pytest.approx((10 + 2) / (0.1 + 0.2))
    assert answer_times(make_asked("a", [make_answer("a")])).tokens_per_s is None


@pytest.fixture
def costs(monkeypatch):
    """Graphs of a million operations a picture, over as many bytes of FP32 weights as they have parameters."""
    vision = GraphCost({"fp32": 10**9}, 4 * 10**6, 0, 0, 0)
    monkeypatch.setattr(first_token, "graph_cost", lambda path: vision)
    monkeypatch.setattr(
        first_token, "decoder_cost", lambda path, tokens: GraphCost({"fp32": 10**8 * tokens}, 2 * 10**8, 0, 0, 0)
    )


def test_floors_are_the_larger_of_arithmetic_and_memory(costs, make_asked, make_answer, monkeypatch):
    measured = []
    peaks = HostPeaks(flops=10**11, bandwidth=10**10, threads=3)
    monkeypatch.setattr(first_token, "measure_peaks", lambda threads: measured.append(threads) or peaks)
    meter = FloorMeter(threads=3)
    for name in ("a", "b"):
        asked = make_asked(name, [make_answer("ab", tiles=2)])
        floors = meter.floors(asked, answer_times(asked))
        assert floors.encode_ms == pytest.approx(2 * 10.0)  # two tiles of 1e9 operations at 1e11 a second
        assert floors.prefill_ms == pytest.approx(20.0)  # 20 tokens of 1e8 operations
        assert floors.step_ms == pytest.approx(20.0)  # 2e8 bytes at 1e10 a second
        assert floors.bound == "encode compute-bound, prefill compute-bound, step bandwidth-bound"
        assert floors.missing is None
    assert measured == [3] and meter.peaks is peaks


def test_what_runs_on_a_device_has_the_devices_floor(costs, make_asked, make_answer, monkeypatch):
    monkeypatch.setattr(first_token, "measure_peaks", lambda threads: pytest.fail("nothing runs on the CPU"))
    asked = make_asked("a", [make_answer("ab")])
    asked.tower_on_cpu = asked.decoder_on_cpu = False
    floors = FloorMeter(1).floors(asked, answer_times(asked))
    assert floors.encode_ms is None and floors.step_ms is None
    assert "not in the table of peaks" in floors.missing


def test_a_missing_package_costs_the_floors_only(make_asked, make_answer, monkeypatch):
    def missing(path):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(first_token, "graph_cost", missing)
    asked = make_asked("a", [make_answer("ab")])
    assert FloorMeter(1).floors(asked, answer_times(asked)).missing == "no floors: the package onnx is not installed"
