"""One bundle of several depths, from the export to the server: at each depth it is what a bundle of that depth is."""

import asyncio
import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

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

DEPTHS = ("1", "1/2")
"""Of two blocks. Both leave a picture four tokens."""

QUESTION = "What is this?"

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "depths.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elastic(answering_model, tmp_path_factory):
    """A checkpoint with random weights that pictures can sway, at three depths."""
    from laco_export.models import LacoProcessor, checkpoint

    tokenizer = answering_model[1].tokenizer
    token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    model = random_model(token_id, tokenizer.eos_token_id, len(tokenizer), blocks=2, at=DEPTHS)
    folder = tmp_path_factory.mktemp("checkpoints") / "elastic"
    checkpoint.save(model, LacoProcessor.for_model(model, tokenizer), folder)
    return folder


@pytest.fixture(scope="module")
def exported(elastic, traced_once, tmp_path_factory):
    """``(all, one)``: the bundle of all depths, and one of the second alone, whose language model is the other's: that
    its files do not depend on the depth is seen where they are compared."""
    folder = tmp_path_factory.mktemp("bundles")
    options = ["--model", str(elastic), "--fp32", "--batch", "1", "2", "--no-compile"]
    assert export([*options, "--at", "all", "--output", str(folder / "all")]) == 0
    assert export([*options, "--at", "1/2", "--no-llm", "--output", str(folder / "one")]) == 0
    shutil.copytree(folder / "all" / "llm", folder / "one" / "llm")
    decoder, alone = read_manifest(folder / "all").decoder, read_manifest(folder / "one")
    write_manifest(folder / "one", dataclasses.replace(alone, decoder=decoder))
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
    # What a depth adds are its merges, one more here: a Linear of 128 x 32, one of 32 x 32, small vectors.
    added = several.path.joinpath("vision.data").stat().st_size - alone.path.joinpath("vision.data").stat().st_size
    assert added == pytest.approx(4 * (128 * 32 + 32 * 32), rel=0.05)


def test_a_depth_of_several_is_what_its_own_bundle_is(several, alone):
    """But for the names of its files, and where in the weight file a tensor stands."""
    view, own = several.at("1/2").manifest, alone.manifest
    unnamed = lambda vision: dataclasses.replace(
        vision, graphs=[dataclasses.replace(graph, file="") for graph in vision.graphs]
    )
    assert unnamed(view.vision) == unnamed(own.vision)
    assert [note for note in view.notes if "decoder" not in note] == own.notes[:-1]
    for part in ("tensors", "branches", "tolerance", "pictures", "rewritten"):
        assert view.accuracy[part] == own.accuracy[part]
    assert list(view.accuracy["also"].values()) == list(own.accuracy["also"].values())
    watched = [check["watched"] for check in view.accuracy["witnesses"]]
    assert watched[-2:] == ["token ids", "the language model's inputs"]
    assert view.accuracy["witnesses"][:-2] == own.accuracy["witnesses"]
    golden = read_golden(several.at("1/2")), read_golden(alone)
    np.testing.assert_array_equal(golden[0].image_features, golden[1].image_features)


def test_answers_are_those_of_the_depths_own_bundle(answerer, answerer_alone, make_picture):
    at_half = answerer.at("1/2")
    pictures = [make_picture(seed) for seed in range(4)]
    for picture in pictures:
        got, expected = answer(at_half, picture), answer(answerer_alone, picture)
        assert (got.text, got.token_ids, got.scores) == (expected.text, expected.token_ids, expected.scores)
    at_last = [answer(answerer, picture).scores for picture in pictures]
    assert at_last != [answer(at_half, picture).scores for picture in pictures]  # depths differ at all


def test_what_one_depth_has_read_is_not_taken_for_anothers(several, answerer_alone, make_picture):
    """The depths leave a picture as many tokens, so that a KV cache of the other one would fit, and be wrong."""
    answerer = Answerer(several, text_runtime="lean", threads=1)
    picture = make_picture(5)
    first = answer(answerer, picture)
    other = answer(answerer.at("1/2"), picture)
    answerer_alone.forget()
    expected = answer(answerer_alone, picture)
    assert other.token_ids == expected.token_ids
    image = int(answerer.prompter.prepare([picture], QUESTION).image_positions[0])
    assert first.cached_tokens == 0
    assert other.cached_tokens == image  # the words before the picture are the same language model's
    again = answer(answerer, picture)
    assert (again.token_ids, again.cached_tokens > image) == (first.token_ids, True)
    assert answerer.at("1/2").encoder.encoded == 1


def test_a_depth_that_nobody_asks_for_is_not_opened(several, make_picture, monkeypatch):
    opened, open_runtime = [], answering.open_runtime
    monkeypatch.setattr(
        answering, "open_runtime", lambda bundle, **on: opened.append(bundle.depths[0]) or open_runtime(bundle, **on)
    )
    answerer = Answerer(several, at="1/2", text_runtime="lean", threads=1)
    assert (answerer.depth, answerer.at("1/2") is answerer) == ("1/2", True)
    assert opened == ["1/2"]
    last = answerer.at("1.0")
    assert last is answerer.at("block:2") and last.text is answerer.text
    assert opened == ["1/2", "1"]
    answer(last, make_picture(1))
    last.let_go_of_tower()
    assert answer(answerer.at("1"), make_picture(1)).cached_tokens > 0  # what was read is kept
    assert opened == ["1/2", "1", "1"]
    with pytest.raises(DepthError, match="1, 1/2"):
        answerer.at("3/4")


def test_a_prompt_of_another_grid_is_refused(answerer, make_picture):
    """As a path of two merges leaves, to which it would give tokens that stand elsewhere in the picture."""
    prompt = answerer.prompter.prepare([make_picture(1)], QUESTION)
    assert prompt.token_grid == (2, 2)
    elsewhere = dataclasses.replace(prompt, token_grid=(1, 1))
    for ask in (answerer.generate, lambda prompt: answerer.generate_batch([prompt])):
        with pytest.raises(UsageError, match="other tokens"):
            ask(elsewhere)


def test_a_chat_stays_at_its_depth(answerer, answerer_alone, make_picture):
    chats = [Chat(answerer.at("1/2")), Chat(answerer_alone)]
    for question, pictures in ((QUESTION, [make_picture(7)]), ("And its colour?", [])):
        texts = [chat.ask(question, pictures).token_ids for chat in chats]
        assert texts[0] == texts[1]


def test_run_answers_at_the_depth_that_is_named(exported, picture_file, capsys):
    documents = {}
    for folder, at in ((exported[0], "1"), (exported[0], "block:1"), (exported[1], None)):
        options = ["--image", str(picture_file), "--question", QUESTION, "--max-new-tokens", "8", "--json"]
        assert engine(["run", str(folder), *options, *(["--at", at] if at else [])]) == 0
        documents[folder.name, at] = json.loads(capsys.readouterr().out)
    assert documents["all", "block:1"]["depth"] == documents["one", None]["depth"] == "1/2"
    assert documents["all", "block:1"]["token_ids"] == documents["one", None]["token_ids"]
    assert documents["all", "1"]["depth"] == "1"


def test_inspect_lists_the_depths_and_shows_one(exported, capsys):
    assert engine(["inspect", str(exported[0])]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "laco @1 (after block 2), 16 → 4 tokens" in said
    table = said.partition("depths over the same weights")[2]
    assert all(f"│ {depth} │" in table for depth in DEPTHS)
    assert engine(["inspect", str(exported[0]), "--at", "1/2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["compression"]["depth"], document["depths"]) == ("1/2", [])


def test_diff_compares_each_depth_or_the_one_that_is_named(exported, tmp_path, capsys):
    assert engine(["diff", str(exported[0]), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["depths"]) == list(DEPTHS) and document["passed"]
    assert all(check["parts"] for check in document["depths"].values())
    damaged = tmp_path / "damaged"
    shutil.copytree(exported[0], damaged)
    # The graph of one depth in the place of another: its features are another depth's.
    shutil.copyfile(damaged / "vision_at1_b1.onnx", damaged / "vision_at1_2_b1.onnx")
    write_manifest(damaged, read_manifest(damaged))
    assert engine(["diff", str(damaged), "--at", "1"]) == 0
    capsys.readouterr()
    assert engine(["diff", str(damaged)]) == 1
    assert "first out of tolerance" in capsys.readouterr().out


def test_bench_measures_each_depth(exported, capsys):
    quick = ["--repeats", "2", "--warmup", "0", "--no-memory", "--batch", "1", "--new-tokens", "2", "--json"]
    assert engine(["bench", str(exported[0]), *quick, "--text-runtime", "lean", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [result["bundle"] for result in report["encode"]] == [f"all @{depth}" for depth in DEPTHS]
    assert [result["depth"] for result in report["encode"]] == [1.0, 0.5]
    assert [result["bundle"] for result in report["decode"]] == [f"all @{depth}" for depth in DEPTHS]


@pytest.mark.parametrize("command", ["run", "chat", "serve", "diff", "bench", "inspect", "build"])
def test_a_depth_that_is_not_carried_is_refused(exported, command, capsys):
    options = {"run": ["--question", QUESTION], "build": ["--device", "orin-nano"]}
    assert engine([command, str(exported[0]), "--at", "1/4", *options.get(command, [])]) == 2
    assert "allowed: 1, 1/2" in " ".join(capsys.readouterr().err.split())


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
        assert [model["id"] for model in listed] == ["mine", "mine@1", "mine@1/2"]
        ways = ({}, {"model": "mine"}, {"model": "mine@1/2"}, {"depth": "0.5"}, {"model": "mine@1/2", "depth": "1/2"})
        replies = [await client.ask(messages, max_tokens=8, **way) for way in ways]
        assert [reply.json["depth"] for reply in replies] == ["1", "1", "1/2", "1/2", "1/2"]
        assert [reply.headers["x-laco-depth"] for reply in replies] == ["1", "1", "1/2", "1/2", "1/2"]
        texts = [reply.json["choices"][0]["message"]["content"] for reply in replies]
        expected = [one.answer([picture], QUESTION, max_new_tokens=8).text for one in (answerer, answerer_alone)]
        assert texts == [expected[0]] * 2 + [expected[1]] * 3
        stream = await client.ask(messages, max_tokens=8, stream=True, depth="1/2")
        assert stream.headers["x-laco-depth"] == "1/2" and b'"depth": "1/2"' in stream.body.replace(b'":"', b'": "')
        for status, wrong in (
            (404, {"model": "mine@1/4"}),
            (404, {"model": "yours@1/2"}),
            (400, {"depth": "1/4"}),
            (400, {"model": "mine@1/2", "depth": "1"}),
        ):
            assert (await client.ask(messages, **wrong)).status == status
        assert 'laco_depth_answers_total{depth="1/2"} 4.0' in (await client.request("GET", "/metrics")).body.decode()

    serving(several, answerer, check)


def test_the_server_has_a_depth_of_its_own(several, answerer, make_picture):
    async def check(client, service):
        reply = await client.ask([user(QUESTION, data_url(png(make_picture(9))))], max_tokens=2)
        assert reply.json["depth"] == "1/2"

    serving(several, answerer, check, at="0.5")


def test_calibration_is_of_one_depth(exported, tmp_path, capsys):
    images = ["--images", str(exported[0])]  # not looked at before the depth is
    assert calibrate([str(exported[0]), *images, "--output", str(tmp_path / "int8")]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "a calibration is of one depth" in message and "--at 1/2" in message
    assert calibrate([str(exported[0]), *images, "--at", "1/4"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_run(exported, picture_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "bundle").symlink_to(exported[0])
    shutil.copy(picture_file, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    _, run, _ = (shlex.split(line, comments=True) for line in commands.splitlines())  # the others have tests above
    assert engine([*[word.replace("1/4", "1/2") for word in run[1:]], "--max-new-tokens", "4"]) == 0
    names = {}
    for source in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(source.replace("1/4", "1/2"), "docs/depths.md", "exec"), names)
    assert (names["faster"].depth, names["alone"].depth, names["choice"].depth) == ("1/2", "1/2", "1")
    assert str(DEPTHS) in capsys.readouterr().out


def test_a_report_has_each_depth_beside_the_others(several, answerer, picture_file, tmp_path, capsys):
    (tmp_path / "questions.txt").write_text(QUESTION)
    words = (
        "--images",
        picture_file.parent,
        "--questions",
        tmp_path / "questions.txt",
        "--json",
        "--max-new-tokens",
        "12",
    )
    options = (*words, "--threads", "1", "--text-runtime", "lean", "--no-memory", "--output", tmp_path / "report.html")
    assert engine([str(word) for word in ("report", several.path, *options, "--reference", "all @1/2")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [bundle["name"] for bundle in document["bundles"]] == [f"all @{depth}" for depth in DEPTHS]
    assert [bundle["is_reference"] for bundle in document["bundles"]] == [False, True]
    (row,) = document["answers"]
    said = [answer(answerer.at(depth), picture_file) for depth in DEPTHS]
    assert [given["text"] for given in row["answers"]] == [own.text.strip() for own in said]
    for given, own in zip(row["answers"], said):
        pairs = list(zip(own.token_ids, said[1].token_ids))
        shared = next((place for place, (left, right) in enumerate(pairs) if left != right), len(pairs))
        assert (given["prefix"], given["prefix_of"]) == (shared, len(said[1].token_ids))
    assert any(given["same_text"] is False for given in row["answers"])
    assert engine([str(word) for word in ("report", several.path, *options, "--at", "1/2", "--force")]) == 0
    assert [bundle["depth"] for bundle in json.loads(capsys.readouterr().out)["bundles"]] == ["1/2"]


def test_a_governor_chooses_where_a_request_names_no_depth(several, answerer, make_picture):
    """No answer comes in a microsecond, so that the fastest depth is taken; a request that names one is not moved."""
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    from laco_engines.governor import Governor, GovernorRules
    from laco_engines.serving.governed import GovernedDepths

    governor = Governor.of_manifest(several.manifest, GovernorRules(deadline_ms=1e-3))
    messages = [user(QUESTION, data_url(png(make_picture(9))))]

    async def check(client, service):
        replies = [await client.ask(messages, max_tokens=4, **way) for way in ({}, {"depth": "1"}, {"stream": True})]
        assert [reply.headers["x-laco-depth"] for reply in replies] == ["1/2", "1", "1/2"]

    serving(several, answerer, check, governed=GovernedDepths(governor))
    assert answerer.at("1/2").encoder.encoded > 0


@pytest.mark.parametrize(
    ("folder", "options", "said"),
    [
        ("one", ["--deadline", "400"], "there is no depth to choose"),
        ("all", ["--deadline", "400", "--at", "1/2"], "--at fixes the depth"),
        ("all", ["--deadline", "0"], "--deadline is a number above 0"),
        ("all", ["--keep-below", "power"], "--keep-below is no limit"),
    ],
)
def test_a_governor_that_cannot_choose_is_refused(exported, folder, options, said, capsys):
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    assert engine(["serve", str(exported[0].parent / folder), *options]) == 2
    assert said in capsys.readouterr().err


def test_what_a_calibration_carries_is_of_its_depth(several, tmp_path):
    from laco_calibration.quantizing.quantized_graphs import carry

    carry(several.at("1/2"), tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith(("vision", "golden"))} == {
        "golden_at1_2.npz",
        "golden_answers_at1_2.npz",
    }
    assert {"tokenizer.json", "llm/config.json"} < names
