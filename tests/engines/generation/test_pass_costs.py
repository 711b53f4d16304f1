"""What is measured of a decoder's passes."""

import numpy as np
import pytest

from laco_engines.generation.lean_decoder import LeanDecoder, open_lean_decoder
from laco_engines.generation.pass_costs import WIDTHS, measure_pass_costs


@pytest.fixture(scope="module")
def decoder(bundle):
    return open_lean_decoder(bundle, threads=1, provider="cpu")


def test_passes_are_timed_and_compared_with_steps(decoder):
    costs = measure_pass_costs(decoder)
    assert set(costs.over_step) == {1, *WIDTHS}
    assert costs.over_step[1] == 1
    assert all(cost > 0 for cost in costs.over_step.values())
    assert 0 <= costs.rounding < 1e-4


def test_a_slow_pass_and_another_logit_are_seen(decoder, monkeypatch):
    plain = LeanDecoder.read

    def read(self, tokens, cache):
        if len(tokens) == 8:
            for _ in range(20):
                plain(self, tokens, cache)
                cache.crop(cache.get_seq_length() - 8)
        logits = plain(self, tokens, cache)
        logits[3 % len(tokens), 17] += np.float32(0.25) if len(tokens) == 4 else 0
        return logits

    monkeypatch.setattr(LeanDecoder, "read", read)
    costs = measure_pass_costs(decoder)
    assert costs.rounding == pytest.approx(0.25, abs=1e-4)
    assert costs.over_step[8] > 5 * costs.over_step[4]
