"""``laco-engine plan`` on a tiny bundle of two depths; only ONNX Runtime's CPU provider is here."""

import json
import shutil

import pytest
from PIL import Image

from laco_engines.answering import Answerer
from laco_engines.devices.host_peaks import HostPeaks
from laco_engines.plan import gauges
from laco_engines.plan.spans import VISION_SPAN
from laco_export.bundle import open_bundle
from laco_export.cli import main as export

from ..fixtures import random_model

QUICK = ("--repeats", "2", "--warmup", "1", "--threads", "1", "--text-runtime", "lean")
QUESTION = "What is this?"


@pytest.fixture(scope="module")
def elastic(answering_model, traced_once, tmp_path_factory):
    """A bundle of two depths with graphs for one and for two pictures."""
    from laco_export.models import LacoProcessor, checkpoint

    folder, tokenizer = tmp_path_factory.mktemp("plan"), answering_model[1].tokenizer
    token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    model = random_model(token_id, tokenizer.eos_token_id, len(tokenizer), at=("1/2", "1/4"))
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder / "checkpoint")
    options = ["--model", str(folder / "checkpoint"), "--fp32", "--batch", "1", "2", "--no-compile", "--at", "all"]
    assert export([*options, "--output", str(folder / "all")]) == 0
    return folder / "all"


@pytest.fixture(autouse=True)
def own_cache(engine_cache, monkeypatch):
    """A cache of the test's own; the machine's peaks take seconds to measure, and are so high that floors say
    nothing."""
    monkeypatch.setattr(gauges, "measure_peaks", lambda threads: HostPeaks(1e15, 1e15, threads, 1e15))
    return engine_cache


@pytest.fixture
def questions(tmp_path, make_picture):
    """``(file, folder)`` of six questions about six pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        make_picture(seed).save(folder / f"{seed}.png")
    (tmp_path / "questions.txt").write_text(QUESTION)
    return tmp_path / "questions.txt", folder


def plan(run, *arguments):
    """The plan as JSON; it is found."""
    code, out, err = run("plan", *arguments, "--json", *QUICK)
    assert code == 0, err
    return json.loads(out)


def test_what_is_measured_is_kept_for_the_next_time(run, elastic):
    fastest = (elastic, "--budget", "60s", "--of", "encode", "--prefer", "time")
    first = plan(run, *fastest)
    assert first["space"] == 2 and first["measured"] == 1, "the other depth has more operations"
    chosen, other = first["candidates"]
    assert (first["choice"], chosen["depth"], other["depth"]) == (chosen, "1/4", "1/2")
    assert chosen["time_ms"]["source"] == "measured"
    assert other["time_ms"] == {
        "value": None, "low": chosen["time_ms"]["value"], "high": None, "source": "bounded",
    }  # fmt: skip
    again = plan(run, *fastest)
    assert again["measured"] == 0 and again["choice"]["time_ms"]["source"] == "recorded"
    assert again["choice"]["time_ms"]["value"] == chosen["time_ms"]["value"]
    assert plan(run, *fastest, "--fresh")["measured"] == 1


def test_a_time_is_the_sum_of_its_parts(run, elastic):
    found = plan(run, elastic, "--budget", "60s", "--of", "answer:5", "--batch", "1")["choice"]
    parts = {name: found[f"{name}_ms"]["value"] for name in ("preprocess", "encode", "prefill", "token")}
    assert all(value > 0 for value in parts.values())
    whole = parts["preprocess"] + parts["encode"] + parts["prefill"] + 4 * parts["token"]
    assert found["time_ms"]["value"] == pytest.approx(whole)
    assert found["memory_bytes"]["value"] is None and found["memory_by_arithmetic"] > 0


def test_batches_of_a_question_of_several_pictures(run, elastic):
    document = plan(run, elastic, "--of", "encode", "--pictures", "3", "--budget", "60s")
    assert sorted((each["depth"], each["batch"]) for each in document["candidates"]) == [
        ("1/2", 1), ("1/2", 2), ("1/4", 1), ("1/4", 2),
    ]  # fmt: skip
    assert len(plan(run, elastic, "--of", "encode", "--pictures", "3", "--batch", "2")["candidates"]) == 2


def test_memory_is_measured_where_it_is_limited(run, elastic):
    code, out, err = run("plan", elastic, "--of", "encode", "--memory", "1M", "--json", *QUICK)
    assert code == 1 and "none of 2 candidates keeps the limits" in err and "over --memory (measured)" in err
    document = json.loads(out)
    assert document["choice"] is None and document["commands"] == []
    for each in document["failing"]:
        assert each["memory_bytes"]["value"] > 30 << 20
        assert each["misses"][0]["over_by"] == pytest.approx(each["memory_bytes"]["value"] - (1 << 20))
    assert plan(run, elastic, "--of", "encode", "--memory", "60G")["choice"]["memory_bytes"]["source"] == "recorded"


def test_answers_kept_are_counted_by_asking(run, elastic, questions):
    file, folder = questions
    found = plan(run, elastic, "--budget", "60s", "--questions", file, "--images", folder, "--of", "encode")
    whole = open_bundle(elastic)
    texts = {}
    for depth in whole.depths:
        answerer = Answerer(whole.at(depth), text_runtime="lean", threads=1)
        pictures = sorted(folder.iterdir())
        texts[depth] = [answerer.answer([path], QUESTION, max_new_tokens=32).text.strip() for path in pictures]
    same = sum(map(str.__eq__, texts["1/2"], texts["1/4"]))
    assert same < 6, "the depths answer alike, and nothing is tested"
    lost = {each["depth"]: each["points_lost"]["value"] for each in found["candidates"]}
    assert lost == {"1/2": 0.0, "1/4": pytest.approx(100 * (6 - same) / 6)}
    assert found["choice"]["depth"] == "1/2" and found["choice"]["points_lost"]["low"] == 0
    other = plan(run, elastic, "--max-drop", "0", "--questions", file, "--images", folder, "--of", "encode",
                 "--reference", f"{elastic}@1/4")  # fmt: skip
    assert other["choice"]["depth"] == "1/4"


def test_a_benchmark_is_as_good_a_source(run, elastic, tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({f"{elastic}@1/2": 70.0, f"{elastic.name}@1/4": 68.5}))
    arguments = (elastic, "--of", "encode", "--benchmark", tmp_path / "scores.json")
    assert plan(run, *arguments, "--max-drop", "1")["choice"]["depth"] == "1/2"
    lost = {each["depth"]: each["points_lost"]["value"] for each in plan(run, *arguments)["candidates"]}
    assert lost == {"1/2": 0.0, "1/4": 1.5}
    (tmp_path / "scores.json").write_text(json.dumps({f"{elastic}@1/2": 70.0}))
    code, _, err = run("plan", *arguments)
    assert code == 2 and f"nothing for {elastic}@1/4" in err


def test_a_device_elsewhere_is_predicted_and_said_to_be(run, elastic):
    code, out, err = run("plan", elastic, "--device", "orin-nano", "--budget", "100ms", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["measured"] == 0 and "every time is predicted and none measured" in " ".join(document["notes"])
    for each in document["candidates"]:
        assert each["time_ms"]["source"] == "predicted"
        encode = each["encode_ms"]
        assert encode["low"] < encode["value"] < encode["high"]
        assert encode["high"] / encode["low"] == pytest.approx(VISION_SPAN.high / VISION_SPAN.low)
        assert each["preprocess_ms"] is None and each["threads"] is None
    assert document["commands"][0].startswith("laco-engine build")
    assert any("public figures begin at 35" in note for note in document["notes"]), "a tiny tower is none of those"


def test_what_does_not_fit_a_device_is_told_with_its_interval(run, elastic):
    code, _, err = run("plan", elastic, "--device", "orin-nano", "--budget", "1us")
    assert code == 1 and "over --budget (predicted)" in err
    code, _, err = run("plan", elastic, "--device", "orin-nano", "--of", "encode", "--memory", "1M", "--budget", "1s")
    assert code == 1 and "over --memory (predicted)" in err


def test_what_is_printed(run, elastic, tmp_path):
    code, out, err = run("plan", elastic, "--budget", "60s", "--plot", tmp_path / "plan.png", *QUICK)
    assert code == 0, err
    for word in (
        "choice: ",
        " thread: encode ",
        ", prefill ",
        "=>",
        "2 candidates, ",
        "nothing is known of answers",
        "the first token",
        "measured",
        f"laco-engine run {elastic} --at ",
        "--threads 1",
    ):
        assert word in out, word
    assert "…" not in out
    with Image.open(tmp_path / "plan.png") as image:
        assert image.size == (1100, 620)
    assert run("plan", elastic, "--budget", "60s", "--plot", tmp_path / "plan.svg", *QUICK)[0] == 0
    assert "</svg>" in (tmp_path / "plan.svg").read_text()


def test_nothing_fits(run, elastic):
    code, out, err = run("plan", elastic, "--budget", "1us", "--of", "encode", *QUICK)
    assert code == 1
    assert "none of 2 candidates keeps the limits" in err and "over --budget (measured)" in err and "do:" in err
    assert "none fits, the nearest first" in out and "laco-engine run" not in out


def test_bundles_of_different_models(run, elastic):
    other = rewritten_encoder(elastic, elastic.with_name("other"))
    code, _, err = run("plan", elastic, other, "--budget", "1s")
    assert code == 2 and "different models" in err and "num_blocks" in err


def rewritten_encoder(folder, copy):
    """A copy whose manifest tells of an encoder of other size."""
    import dataclasses

    from laco_export.bundle import read_manifest, write_manifest

    if not copy.exists():
        shutil.copytree(folder, copy)
        manifest = read_manifest(copy)
        write_manifest(copy, dataclasses.replace(manifest, encoder={**manifest.encoder, "num_blocks": 6}))
    return copy


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--budget", "150"], "has no unit"),
        (["--budget", "0ms"], "no time at all"),
        (["--memory", "2500000"], "has no unit"),
        (["--max-drop", "-1"], "from 0 to 100"),
        (["--max-drop", "nan"], "from 0 to 100"),
        (["--budget", "1s", "--of", "answers"], "answer:N with N tokens"),
        (["--budget", "1s", "--of", "answer:0"], "answer:N with N tokens"),
        (["--budget", "1s", "--device", "orin"], "orin-nano, agx-orin, thor, h200"),
        (["--budget", "1s", "--device", "thor", "--threads", "2"], "threads are this machine's"),
        (["--budget", "1s", "--max-drop", "1"], "--max-drop needs to know what each bundle answers"),
        (["--budget", "1s", "--prefer", "answers"], "--prefer answers needs to know"),
        (["--budget", "1s", "--prefer", "speed"], "answers, time, memory"),
        (["--budget", "1s", "--batch", "7"], "no bundle has a vision graph for this number of pictures"),
        (["--budget", "1s", "--reference", "x", "--calibrated"], "--reference names none of the bundles"),
        (["--budget", "1s", "--questions", "q.txt"], "belong together"),
        (["--budget", "1s", "--benchmark", "nope.json"], "cannot be read"),
        (["--budget", "1s", "--plot", "plan.jpg"], "ends in .png or .svg"),
        (["--budget", "1s", "--plot", "no/such/plan.png"], "does not exist"),
        (["--budget", "1s", "--runtime", "tpu"], "onnxruntime"),
        (["--budget", "1s", "--warmup", "-1"], "--warmup must be at least 0"),
        (["--device", "thor", "--of", "encode", "--batch", "1", "--calibrated"], "there is nothing to choose"),
    ],
)
def test_wrong_options_are_told(run, elastic, arguments, says):
    code, out, err = run("plan", elastic, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_a_bundle_twice(run, elastic):
    code, _, err = run("plan", elastic, elastic, "--budget", "1s")
    assert code == 2 and "given twice" in err
