"""``laco-train price`` on a tiny checkpoint: report, JSON, and input that it refuses."""

import json

import pytest
from PIL import Image

from laco_training.cli import main

_LONGEST = 435  # characters, each a token: with the turns around them, 16 tokens of a picture and 3 of an answer 512


@pytest.fixture(scope="module")
def price_checkpoint(make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    model = make_tiny_model(at="1", method=None)
    return make_tiny_checkpoint(model, tmp_path_factory.mktemp("price") / "whole")


@pytest.fixture(scope="module")
def price_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (40 + number, 50), colour).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def report(price_checkpoint, price_pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "price"
    arguments = ["price", str(price_checkpoint), "--images", str(price_pictures), "--at", "1/2", "--tokens", "3"]
    assert main([*arguments, "--output", str(folder), "--debug"]) == 0
    return folder


def test_the_report_is_a_document_and_a_sheet_for_each_depth(report):
    document = json.loads((report / "price.json").read_text())
    assert {path.name for path in report.iterdir()} == {"price.json", "worst-at1_2.png"}
    (depth,) = document["depths"]
    assert (depth["at"], depth["blocks"], document["samples"], document["tokens_per_tile"]) == ("1/2", [1], 3, 16)
    assert 0 < depth["flops_ratio"] < 1 and 0 < depth["relative_error"] < 2 and depth["encode_ratio"] > 0
    assert len(depth["samples"]) == 3
    with Image.open(report / "worst-at1_2.png") as sheet:
        assert sheet.width > 3 * 2 * 160, "three cells of two pictures side by side"


def test_without_a_report_it_is_a_table_or_json(price_checkpoint, price_pictures, capsys):
    arguments = ["price", str(price_checkpoint), "--images", str(price_pictures), "--tokens", "2", "--samples", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "1/2 (block 1)" in said.err and said.out == ""
    assert main([*arguments, "--json"]) == 0
    assert [depth["at"] for depth in json.loads(capsys.readouterr().out)["depths"]] == ["1", "1/2"]


def test_only_a_report_is_replaced(report, price_checkpoint, price_pictures, tmp_path, capsys):
    arguments = ["price", str(price_checkpoint), "--images", str(price_pictures), "--at", "1/2", "--tokens", "1"]
    assert main([*arguments, "--output", str(report)]) == 2
    (tmp_path / "mine.txt").touch()
    assert main([*arguments, "--output", str(tmp_path), "--force"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert "is no report of this command's" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--samples", "0"], "--samples must be a whole number of at least 1"),
        (["--tokens", "0"], "--tokens must be a whole number of at least 1"),
        (["--max-broken", "2"], "--max-broken is a share"),
        (["--ratio", "5"], "compression.ratio is not supported"),
        (["--at", "2"], "depth 2 lies outside (0, 1]"),
        (["--images", "nowhere"], "there are no pictures at 'nowhere'"),
        (["--questions", "nowhere.json"], "nowhere.json"),
        (["--reference", "nowhere"], "merges nothing"),
    ],
)
def test_bad_input(price_checkpoint, price_pictures, capsys, tmp_path, change, message):
    output = tmp_path / "price"
    arguments = ["price", str(price_checkpoint), "--images", str(price_pictures), "--output", str(output), *change]
    assert main(arguments) != 0
    said = capsys.readouterr().err
    assert message in " ".join(said.split()) and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_broken_picture_is_named(price_checkpoint, price_pictures, tmp_path, capsys):
    for path in price_pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    arguments = ["price", str(price_checkpoint), "--images", str(tmp_path), "--at", "1/2", "--tokens", "1", "--json"]
    assert main(arguments) == 2
    assert "1 of 4 samples cannot be used" in " ".join(capsys.readouterr().err.split())
    assert main([*arguments, "--max-broken", "0.5"]) == 0
    said = capsys.readouterr()
    assert "1 samples cannot be used: broken.png" in " ".join(said.err.split())
    assert list(json.loads(said.out)["broken"]) == ["broken.png"]


def test_a_question_beyond_the_context_is_named(price_checkpoint, price_pictures, tmp_path, capsys):
    """The longest question that is asked takes all 512 positions with its picture and its answer."""
    entries = [_asked(number, "What?") for number in range(3)]
    entries.append(_asked("whole context", "x" * _LONGEST))
    entries.append(_asked("beyond", "x" * (_LONGEST + 1)))
    (tmp_path / "questions.json").write_text(json.dumps(entries))
    arguments = ["price", str(price_checkpoint), "--images", str(price_pictures), "--at", "1/2", "--tokens", "3"]
    arguments += ["--questions", str(tmp_path / "questions.json"), "--json"]
    assert main(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 5 samples cannot be used" in said and "beyond: the question, its pictures and an answer" in said
    assert main([*arguments, "--max-broken", "0.2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["samples"] == 4
    assert document["broken"] == {
        "beyond": "the question, its pictures and an answer take 513 tokens of a context of 512"
    }


def _asked(name, text):
    turn = {"from": "human", "value": f"<image>\n{text}"}
    return {"id": str(name), "image": "0.png", "conversations": [turn]}
