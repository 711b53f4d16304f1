"""What is told of a plan, and what is to be typed."""

from dataclasses import replace

from laco_engines.plan.figures import MEASURED, PREDICTED, Figure
from laco_engines.plan.limits import TextFigures
from laco_engines.plan.verdict import making, parts_in_words, reasons

from .tables import model, planned


def test_why_a_better_one_fails():
    plan = planned([model("large", gflop=300), model("small", gflop=100)])
    assert plan.choice.candidate.model.name == "small"
    (failing,) = plan.failing
    assert reasons(failing) == "300 ms, 150 ms over --budget (measured)"
    document = plan.to_dict()
    assert document["failing"][0]["misses"] == [
        {"limit": "--budget", "allowed": 150, "over_by": 150, "source": "measured"}
    ]
    assert document["space"] == 2 and document["measured"] == 2


def test_what_was_not_measured_is_told_as_at_least():
    plan = planned([model("large", gflop=300), model("small", gflop=100)], floor=lambda each: 0.9)
    (failing,) = plan.failing
    assert reasons(failing).startswith("at least 270 ms, 120 ms over --budget (not measured: by its floor")
    assert plan.measured == 1


def test_the_nearest_where_nothing_fits():
    plan = planned([model("large", gflop=300), model("small", gflop=200)])
    assert plan.choice is None and plan.commands() == []
    assert "the nearest is small, batch 1, 1 thread: " in str(plan.refusal())
    assert "50 ms over --budget" in str(plan.refusal())


def test_the_commands_run_the_choice():
    plan = planned([model("my bundle", gflop=100)])
    assert plan.commands() == ["laco-engine run 'my bundle' --threads 1 --image FILE --question TEXT"]
    elsewhere = planned([model("half", gflop=100)], elsewhere="Jetson")
    assert elsewhere.commands()[0].startswith("laco-engine build half  # on the Jetson")
    assert "--threads" not in elsewhere.commands()[1]


def test_a_choice_without_a_graph_that_the_bundle_has_is_exported_anew():
    plan = planned([model("half", gflop=10, batches=(1, 5))], tiles=5, floor=lambda each: 0.1)
    chosen = plan.choice.candidate.batch
    (line, *_) = plan.commands()
    assert (chosen == 5) or line.startswith("laco-export --model checkpoint --at 1/2 --fp16 --llm int4  # without")


def test_a_time_is_told_by_its_parts():
    (assessed,) = planned([model("half", gflop=100)]).assessed
    assert parts_in_words(assessed) == "encode 100 ms (measured)"
    prefill = Figure(40.0, 20.0, 80.0, frozenset({PREDICTED}))
    text = TextFigures(Figure.exact(3.0, MEASURED), prefill, Figure.exact(9.0, MEASURED))
    assert parts_in_words(replace(assessed, text=text)) == (
        "encode 100 ms, preprocess 3 ms, prefill 40 ms (20 ms to 80 ms), each further token 9 ms (measured)"
    )


def test_how_a_bundle_is_made():
    making_of = lambda **options: making(planned([model("one", **options)]).assessed[0])
    assert making_of(precision="fp16") == ["laco-export --model checkpoint --at 1/2 --fp16 --llm int4"]
    assert making_of(precision="fp32", llm=None, target="ort-cpu") == [
        "laco-export --model checkpoint --at 1/2 --fp32 --no-llm --target ort-cpu"
    ]
    assert making_of(precision="int8", calibration={}) == [
        "laco-export --model checkpoint --at 1/2 --fp32 --llm int4 --output fp32",
        "laco-calibrate fp32 --images DIR",
    ]
    assert making_of(precision="w4", calibration={})[1] == "laco-calibrate fp32 --images DIR --weights-only int4"
