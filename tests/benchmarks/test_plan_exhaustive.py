"""How the benchmark judges a choice, on a table whose true best is known."""

import sys
from pathlib import Path

import plan_exhaustive
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engines" / "plan"))
from tables import model, planned


@pytest.fixture
def models():
    return [model("large", gflop=300), model("half", gflop=140), model("small", gflop=100)]


def test_the_true_best_is_found_by_looking_at_all(models):
    everything = planned(models, budget=1000)
    judged = plan_exhaustive.judged(planned(models, budget=150), everything)
    assert judged["chosen"] == judged["true_best"] == "half, batch 1, 1 thread"
    assert judged["slower_than_true_best"] == 0
    assert judged["keep_the_budget"] == 2 and 0 < judged["share_measured"] <= 1


def test_a_worse_choice_is_told(models):
    everything, plan = planned(models, budget=1000), planned(models, budget=120)
    object.__setattr__(plan, "limits", planned(models, budget=150).limits)
    judged = plan_exhaustive.judged(plan, everything)
    assert judged["chosen"].startswith("small") and judged["true_best"].startswith("half")
    assert judged["slower_than_true_best"] is None, "it loses more points"
