"""What ``laco-engine plan`` chooses against the true best of the same space, all of which is measured.

    python benchmarks/plan_exhaustive.py BUNDLE… --name tiny [--of encode --pictures 5 --threads 1 2 --repeats 10]
        [--questions FILE --images DIR]

The whole space is measured twice: how far the two passes differ is the measurement's noise. Then the planner searches
the space anew, with nothing kept, once for each budget: at quantiles of the times that were measured, so that from few
to nearly all candidates keep it. Judged by the first pass, how much slower is its choice than the fastest one among
those that lose no more points? And how many measurements did it take? Written to results/plan_exhaustive_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measured_on import measured_on

from laco_engines.commands.question_file import read_questions
from laco_engines.plan import planner
from laco_engines.plan.limits import Limits, Quantity
from laco_engines.plan.measurements import MeasurementCache
from laco_engines.plan.planner import PlanOptions, plan_bundles
from laco_engines.plan.quality import AskedAnswers
from laco_export.bundle import open_bundle

RESULTS = Path(__file__).resolve().parent / "results"
BUDGETS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the times of the space."""


def forgetful(folder: Path):
    """A :class:`MeasurementCache` of its own for each plan."""
    return lambda **_: MeasurementCache(Path(tempfile.mkdtemp(dir=folder)))


class Answers:
    """Points lost, asked once for all plans; only who asks what is counted anew."""

    def __init__(self, questions):
        self._questions, self._asked = questions, None

    def __call__(self, models):
        if not self._questions:
            return None
        source = AskedAnswers(models[0], self._questions)
        if self._asked is not None:
            source._answers = self._asked._answers
        self._asked = source
        return source


def times_of(plan) -> dict[str, float]:
    return {str(each.candidate): each.time.value for each in plan.assessed}


def judged(plan, exhaustive) -> dict:
    """The choice beside the best that the first pass knows."""
    times = times_of(exhaustive)
    lost = {str(each.candidate): 0.0 if each.drop is None else each.drop.value for each in exhaustive.assessed}
    budget = plan.limits.time_ms
    keeping = [name for name, time in times.items() if time <= budget]
    best = min(keeping, key=lambda name: (lost[name], times[name]), default=None)
    chosen = None if plan.choice is None else str(plan.choice.candidate)
    same = chosen is not None and best is not None and lost[chosen] == lost[best]
    return {
        "budget_ms": budget,
        "keep_the_budget": len(keeping),
        "chosen": chosen,
        "true_best": best,
        "slower_than_true_best": times[chosen] / times[best] - 1 if same else None,
        "chosen_over_budget": None if chosen is None else times[chosen] / budget - 1,
        "measured": plan.measured,
        "share_measured": plan.measured / plan.space,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--name", required=True)
    parser.add_argument("--of", default="encode")
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--threads", type=int, nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--images", type=Path)
    args = parser.parse_args()
    answers = Answers(read_questions(args.questions, args.images) if args.questions else [])
    bundles = {path.name: open_bundle(path) for path in args.bundles}
    options = partial(
        PlanOptions,
        quantity=Quantity.parse(args.of),
        pictures=args.pictures,
        threads=tuple(args.threads),
        repeats=args.repeats,
        warmup=args.warmup,
    )
    with tempfile.TemporaryDirectory() as folder:
        planner.MeasurementCache = forgetful(Path(folder))
        passes = [plan_bundles(bundles, options(), answers, everything=True, advance=print) for _ in range(2)]
        first, second = map(times_of, passes)
        noise = [second[name] / first[name] - 1 for name in first]
        rows = []
        for share in BUDGETS:
            budget = float(np.quantile(list(first.values()), share))
            plan = plan_bundles(bundles, options(limits=Limits(time_ms=budget)), answers, advance=print)
            rows.append({"quantile": share, **judged(plan, passes[0])})
            print(json.dumps(rows[-1]))
    document = {
        **measured_on("onnxruntime", "onnx"),
        "of": args.of,
        "pictures": args.pictures,
        "repeats": args.repeats,
        "space": len(first),
        "noise": {"median": float(np.median(np.abs(noise))), "largest": float(np.max(np.abs(noise)))},
        "first_pass_ms": first,
        "second_pass_ms": second,
        "plans": rows,
        "mean_share_measured": float(np.mean([row["share_measured"] for row in rows])),
    }
    (RESULTS / f"plan_exhaustive_{args.name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
