"""What the server tells its governor: of the queue, of the time that went by, and of what is watched."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from laco_engines.devices.watched import WatchedValue
from laco_engines.governor import GovernorChoice
from laco_engines.serving.governed import GovernedDepths


class Recording:
    """In a governor's place."""

    ladder = ("1", "1/2")

    def __init__(self):
        self.moments, self.observed = [], []

    def choose(self, moment):
        self.moments.append(moment)
        return GovernorChoice("1/2", "recorded", None)

    def observe(self, depth, **taken):
        self.observed.append((depth, taken))


@pytest.fixture
def governor():
    return Recording()


def test_it_is_told_what_waits_and_what_is_watched(governor):
    readings = iter((61.0, None))
    watched = WatchedValue("temperature", 70, lambda: next(readings))
    worker = SimpleNamespace(ahead=lambda now: (("1", "1/2"), 0.25))
    job = SimpleNamespace(created=time.monotonic() - 0.5)
    governed = GovernedDepths(governor, [watched])
    assert [governed.choose(job, worker), governed.choose(job, worker)] == ["1/2", "1/2"]
    first, second = governor.moments
    assert (first.ahead, first.running_ms) == (("1", "1/2"), 250.0)
    assert 500 <= first.waited_ms <= second.waited_ms < 60_000
    assert (first.values, second.values) == ((61.0,), (None,))
    assert first.at_s <= second.at_s


def test_it_is_told_what_an_answer_took(governor):
    timings = SimpleNamespace(encode_ms=7.0, prefill_ms=3.0, decode_tokens_per_s=50.0)
    answer = SimpleNamespace(timings=timings, token_ids=[1, 2, 3])
    GovernedDepths(governor).answered(SimpleNamespace(depth="1"), answer)
    assert governor.observed == [("1", {"encode_ms": 7.0, "prefill_ms": 3.0, "decode_ms": 40.0})]
    timings.decode_tokens_per_s = None  # an answer of one token
    GovernedDepths(governor).answered(SimpleNamespace(depth="1"), answer)
    assert governor.observed[1][1]["decode_ms"] == 0.0


def test_each_tower_is_opened_and_timed_before_the_first_request(governor):
    opened = []

    def at(depth):
        graph = SimpleNamespace(input=SimpleNamespace(shape=(2, 3, 28, 28)))
        manifest = SimpleNamespace(vision=SimpleNamespace(graphs=[graph]))
        encode = lambda pixels: opened.append((depth, pixels.shape, pixels.dtype))
        return SimpleNamespace(bundle=SimpleNamespace(manifest=manifest), vision=SimpleNamespace(encode=encode))

    GovernedDepths(governor).prepare(SimpleNamespace(at=at))
    one = (1, 3, 28, 28)
    assert opened == [(depth, one, np.float32) for depth in ("1", "1", "1/2", "1/2")]
    assert [depth for depth, _ in governor.observed] == ["1", "1/2"]
    assert all(taken["encode_ms"] > 0 for _, taken in governor.observed)
