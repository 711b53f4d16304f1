"""One bundle of several depths, from the export to the server: at each depth it is what a bundle of that depth is."""

import asyncio
import dataclasses
import json
import shutil

import numpy as np
import pytest

from laco_calibration.cli import main as calibrate
from laco_engines import answering
from laco_engines.answering import Answerer
from laco_engines.chat import Chat
from laco_engines.cli import main as engine
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.cli import main as export
from laco_export.errors import DepthError, UsageError
from laco_export.golden import read_golden

from ...engines.fixtures import random_model
from ...engines.serving.client import Client
from ...engines.serving.messages import data_url, png, user

DEPTHS = ("1/2", "1/4", "1/4+3/4")
"""Of 4 blocks; the first two leave a picture four tokens each, the last one."""

QUESTION = "What is this?"


@pytest.fixture(scope="module")
def elastic(answering_model, tmp_path_factory):
    """A checkpoint with random weights that pictures can sway, at three depths."""
    from laco_export.models import LacoProcessor, checkpoint

    tokenizer = answering_model[1].tokenizer
    token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    model = random_model(token_id, tokenizer.eos_token_id, len(tokenizer), at=DEPTHS)
    folder = tmp_path_factory.mktemp("checkpoints") / "elastic"
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder)
    return folder


@pytest.fixture(scope="module")
def exported(elastic, traced_once, tmp_path_factory):
    """``(all, one)``: the bundle of all depths, and one of the second alone."""
    folder = tmp_path_factory.mktemp("bundles")
    options = ["--model", str(elastic), "--fp32", "--batch", "1", "2", "--no-compile"]
    assert export([*options, "--at", "all", "--output", str(folder / "all")]) == 0
    assert export([*options, "--at", "1/4", "--output", str(folder / "one")]) == 0
    return folder / "all", folder / "one"


@pytest.fixture(scope="module")
def several(exported):
    return open_bundle(exported[0])


@pytest.fixture(scope="module")
def alone(exported):
    return open_bundle(exported[1])


@pytest.fixture(scope="module")
def answerer(several):
    return Answerer(several, text_runtime="lean", threads=1)


@pytest.fixture(scope="module")
def answerer_alone(alone):
    return Answerer(alone, text_runtime="lean", threads=1)


def answer(answerer, picture, **options):
    return answerer.answer([picture], QUESTION, max_new_tokens=12, output_scores=True, **options)


def test_the_bundle_carries_each_depth_over_one_weight_file(several, alone):
    assert several.depths == DEPTHS
    names = {path.relative_to(several.path).as_posix() for path in several.path.rglob("*") if path.is_file()}
    assert names == {*several.manifest.files, "laco.json"}
    assert [name for name in names if name.endswith(".data")] == ["vision.data"]
    for depth in DEPTHS:
        manifest = several.at(depth).manifest
        assert [graph.batch for graph in manifest.vision.graphs] == [1, 2]
        assert manifest.vision.weights == "vision.data"
    # What a depth adds are its merges: a Linear of 128 x 32, of 32 x 32, and their norm and biases.
    added = several.path.joinpath("vision.data").stat().st_size - alone.path.joinpath("vision.data").stat().st_size
    merge = 4 * (128 * 32 + 32 * 32 + 10 * 128)
    assert 3 * 4 * (128 * 32 + 32 * 32) < added < 3 * merge


def test_a_depth_of_several_is_what_its_own_bundle_is(several, alone):
    """But for the names of its files, and where in the weight file a tensor stands."""
    view, own = several.at("1/4").manifest, alone.manifest
    unnamed = lambda vision: dataclasses.replace(
        vision, graphs=[dataclasses.replace(graph, file="") for graph in vision.graphs]
    )
    assert unnamed(view.vision) == unnamed(own.vision)
    assert view.decoder == own.decoder
    assert view.notes == own.notes
    assert {**view.accuracy, "also": list(view.accuracy["also"].values())} == {
        **own.accuracy,
        "also": list(own.accuracy["also"].values()),
    }
    shared = {name for name in own.files if name in view.files and name != "vision.data"}
    assert {name for name in own.files if name.startswith("llm/")} < shared
    assert all(view.files[name] == own.files[name] for name in shared)
    golden = read_golden(several.at("1/4")), read_golden(alone)
    np.testing.assert_array_equal(golden[0].image_features, golden[1].image_features)


def test_answers_are_those_of_the_depths_own_bundle(answerer, answerer_alone, make_picture):
    at_quarter = answerer.at("1/4")
    pictures = [make_picture(seed) for seed in range(4)]
    for picture in pictures:
        got, expected = answer(at_quarter, picture), answer(answerer_alone, picture)
        assert (got.text, got.token_ids, got.scores) == (expected.text, expected.token_ids, expected.scores)
    at_half = [answer(answerer, picture).scores for picture in pictures]
    assert at_half != [answer(at_quarter, picture).scores for picture in pictures]  # depths differ at all


def test_what_one_depth_has_read_is_not_taken_for_anothers(several, answerer_alone, make_picture):
    """The depths leave a picture as many tokens, so that a KV cache of the other one would fit, and be wrong."""
    answerer = Answerer(several, text_runtime="lean", threads=1)
    picture = make_picture(5)
    first = answer(answerer, picture)
    other = answer(answerer.at("1/4"), picture)
    answerer_alone.forget()
    expected = answer(answerer_alone, picture)
    assert other.token_ids == expected.token_ids
    image = int(answerer.prompter.prepare([picture], QUESTION).image_positions[0])
    assert first.cached_tokens == 0
    assert other.cached_tokens == image  # the words before the picture are the same language model's
    again = answer(answerer, picture)
    assert (again.token_ids, again.cached_tokens > image) == (first.token_ids, True)
    assert answerer.at("1/4").encoder.encoded == 1


def test_a_depth_that_nobody_asks_for_is_not_opened(several, make_picture, monkeypatch):
    opened, open_runtime = [], answering.open_runtime
    monkeypatch.setattr(
        answering, "open_runtime", lambda bundle, **on: opened.append(bundle.depths[0]) or open_runtime(bundle, **on)
    )
    answerer = Answerer(several, at="1/4", text_runtime="lean", threads=1)
    assert (answerer.depth, answerer.at("1/4") is answerer) == ("1/4", True)
    assert opened == ["1/4"]
    path = answerer.at("0.25+0.75")
    assert path is answerer.at("1/4+3/4") and path.text is answerer.text
    assert opened == ["1/4", "1/4+3/4"]
    answer(path, make_picture(1))
    path.let_go_of_tower()
    assert answer(answerer.at("1/4+3/4"), make_picture(1)).cached_tokens > 0  # what was read is kept
    assert opened == ["1/4", "1/4+3/4", "1/4+3/4"]
    with pytest.raises(DepthError, match="1/2, 1/4"):
        answerer.at("3/4")


def test_a_prompt_of_another_grid_is_refused(answerer, make_picture):
    prompt = answerer.prompter.prepare([make_picture(1)], QUESTION)
    path = answerer.at("1/4+3/4")
    for ask in (path.generate, lambda prompt: path.generate_batch([prompt])):
        with pytest.raises(UsageError, match="other tokens"):
            ask(prompt)
    assert len(path.prompter.prepare([make_picture(1)], QUESTION).image_positions) == 1


def test_a_chat_stays_at_its_depth(answerer, answerer_alone, make_picture):
    chats = [Chat(answerer.at("1/4")), Chat(answerer_alone)]
    for question, pictures in ((QUESTION, [make_picture(7)]), ("And its colour?", [])):
        texts = [chat.ask(question, pictures).token_ids for chat in chats]
        assert texts[0] == texts[1]


def test_run_answers_at_the_depth_that_is_named(exported, picture_file, capsys):
    documents = {}
    for folder, at in ((exported[0], "1/2"), (exported[0], "block:1"), (exported[1], None)):
        options = ["--image", str(picture_file), "--question", QUESTION, "--max-new-tokens", "8", "--json"]
        assert engine(["run", str(folder), *options, *(["--at", at] if at else [])]) == 0
        documents[folder.name, at] = json.loads(capsys.readouterr().out)
    assert documents["all", "block:1"]["depth"] == documents["one", None]["depth"] == "1/4"
    assert documents["all", "block:1"]["token_ids"] == documents["one", None]["token_ids"]
    assert documents["all", "1/2"]["depth"] == "1/2"


def test_inspect_lists_the_depths_and_shows_one(exported, capsys):
    assert engine(["inspect", str(exported[0])]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "after block 2" in said and "2 x 2 after block 1, 2 x 2 after block 3" in said
    assert engine(["inspect", str(exported[0]), "--at", "1/4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["compression"]["depth"], document["depths"]) == ("1/4", [])


def test_diff_compares_each_depth_or_the_one_that_is_named(exported, tmp_path, capsys):
    assert engine(["diff", str(exported[0]), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["depths"]) == list(DEPTHS) and document["passed"]
    assert all(check["parts"] for check in document["depths"].values())
    damaged = tmp_path / "damaged"
    shutil.copytree(exported[0], damaged)
    # The graph of one depth in the place of another: its features are another depth's.
    shutil.copyfile(damaged / "vision_at1_2_b1.onnx", damaged / "vision_at1_4_b1.onnx")
    manifest = read_manifest(damaged)
    write_manifest(damaged, manifest)
    assert engine(["diff", str(damaged), "--at", "1/2"]) == 0
    capsys.readouterr()
    assert engine(["diff", str(damaged)]) == 1
    assert "first out of tolerance" in capsys.readouterr().out


def test_bench_measures_each_depth(exported, capsys):
    quick = ["--repeats", "2", "--warmup", "0", "--no-memory", "--batch", "1", "--new-tokens", "2", "--json"]
    assert engine(["bench", str(exported[0]), *quick, "--text-runtime", "lean", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [result["bundle"] for result in report["encode"]] == [f"all @{depth}" for depth in DEPTHS]
    assert [result["depth"] for result in report["encode"]] == [0.5, 0.25, 0.25]
    assert [result["bundle"] for result in report["decode"]] == [f"all @{depth}" for depth in DEPTHS]


@pytest.mark.parametrize("command", ["run", "diff", "bench", "inspect", "build"])
def test_a_depth_that_is_not_carried_is_refused(exported, command, capsys):
    options = ["--question", QUESTION] if command == "run" else []
    assert engine([command, str(exported[0]), "--at", "1", *options]) == 2 or command == "build"
    assert command == "build" or "allowed: 1/2, 1/4, 1/4+3/4" in " ".join(capsys.readouterr().err.split())


def serving(several, answerer, check, **further):
    """Run ``check(client, service)`` on a server of the bundle."""
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    from laco_engines.serving.app import make_app
    from laco_engines.serving.service import Service
    from laco_engines.serving.settings import ServeSettings

    async def main():
        service = Service(several, answerer.prompter, ServeSettings(), load=lambda: answerer, model="mine", **further)
        service.start()
        try:
            while service.status == "loading":
                await asyncio.sleep(0.001)
            return await asyncio.wait_for(check(Client(make_app(service)), service), 60)
        finally:
            service.cancel_all()
            service.stop(30)

    return asyncio.run(main())


def test_a_request_names_its_depth(several, answerer, answerer_alone, make_picture):
    picture = make_picture(9)
    messages = [user(QUESTION, data_url(png(picture)))]

    async def check(client, service):
        listed = (await client.request("GET", "/v1/models")).json["data"]
        assert [model["id"] for model in listed] == ["mine", "mine@1/2", "mine@1/4", "mine@1/4+3/4"]
        ways = ({}, {"model": "mine"}, {"model": "mine@1/4"}, {"depth": "0.25"}, {"model": "mine@1/4", "depth": "1/4"})
        replies = [await client.ask(messages, max_tokens=8, **way) for way in ways]
        assert [reply.json["depth"] for reply in replies] == ["1/2", "1/2", "1/4", "1/4", "1/4"]
        assert [reply.headers["x-laco-depth"] for reply in replies] == ["1/2", "1/2", "1/4", "1/4", "1/4"]
        texts = [reply.json["choices"][0]["message"]["content"] for reply in replies]
        expected = [one.answer([picture], QUESTION, max_new_tokens=8).text for one in (answerer, answerer_alone)]
        assert texts == [expected[0]] * 2 + [expected[1]] * 3
        stream = await client.ask(messages, max_tokens=8, stream=True, depth="1/4")
        assert stream.headers["x-laco-depth"] == "1/4" and b'"depth": "1/4"' in stream.body.replace(b'":"', b'": "')
        for status, wrong in (
            (404, {"model": "mine@1"}),
            (404, {"model": "yours@1/4"}),
            (400, {"depth": "1"}),
            (400, {"model": "mine@1/4", "depth": "1/2"}),
        ):
            assert (await client.ask(messages, **wrong)).status == status
        assert 'laco_depth_answers_total{depth="1/4"} 4.0' in (await client.request("GET", "/metrics")).body.decode()

    serving(several, answerer, check)


def test_the_server_has_a_depth_of_its_own(several, answerer, make_picture):
    async def check(client, service):
        reply = await client.ask([user(QUESTION, data_url(png(make_picture(9))))], max_tokens=2)
        assert reply.json["depth"] == "1/4+3/4"

    serving(several, answerer, check, at="1/4+3/4")


def test_calibration_is_of_one_depth(exported, tmp_path, capsys):
    images = ["--images", str(exported[0])]  # not looked at before the depth is
    assert calibrate([str(exported[0]), *images, "--output", str(tmp_path / "int8")]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "a calibration is of one depth" in message and "--at 1/4+3/4" in message
    assert calibrate([str(exported[0]), *images, "--at", "1"]) == 2
    assert list(tmp_path.iterdir()) == []
