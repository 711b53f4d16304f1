"""``laco-train look`` on a checkpoint and a file of conversations."""

import json

import pytest

from laco_training.cli import main


def test_it_says_what_a_picture_is_worth(tiny_checkpoint, stage_data, capsys):
    assert main(["look", str(tiny_checkpoint), "--data", str(stage_data / "data.json"), "--batch", "8", "--debug"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a picture is worth" in said and "nats a token over" in said
    assert "with their own pictures" in said and "of their variance lies between pictures" in said


def test_as_json_it_is_the_measurement_of_the_same_samples(tiny_checkpoint, stage_data, capsys):
    arguments = ["look", str(tiny_checkpoint), "--data", str(stage_data / "data.json"), "--json", "--samples", "9"]
    looks = []
    for _ in range(2):
        assert main(arguments) == 0
        looks.append(json.loads(capsys.readouterr().out))
    assert looks[0] == looks[1]
    assert 2 <= looks[0]["samples"] <= 9
    assert looks[0]["worth"] == pytest.approx(looks[0]["exchanged_loss"] - looks[0]["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--samples", "1"], "--samples must be a whole number of at least 2"),
        (["--at", "1/4"], "1/2 (block:1)"),
        (["--data", "nothing.json"], "nothing.json"),
    ],
)
def test_bad_input(tiny_checkpoint, stage_data, capsys, change, message):
    arguments = ["look", str(tiny_checkpoint), "--data", str(stage_data / "data.json"), *change]
    assert main(arguments) != 0
    said = capsys.readouterr().err
    assert message in " ".join(said.split()) and "Traceback" not in said


def test_pictures_that_are_all_alike(tiny_checkpoint, stage_data, tmp_path, capsys):
    entry = json.loads((stage_data / "data.json").read_text())[0]
    (tmp_path / "same.json").write_text(json.dumps([{**entry, "id": str(index)} for index in range(4)]))
    arguments = ["look", str(tiny_checkpoint), "--data", str(tmp_path / "same.json"), "--images", str(stage_data)]
    assert main(arguments) == 2
    assert "no two samples" in " ".join(capsys.readouterr().err.split())
