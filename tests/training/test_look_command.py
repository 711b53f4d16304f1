"""``laco-train look`` on a checkpoint and a file of conversations."""

import json

import pytest

from laco_training.cli import main


def test_it_says_what_a_picture_is_worth(tiny_checkpoint, stage_data, capsys):
    assert main(["look", str(tiny_checkpoint), "--data", str(stage_data / "data.json"), "--batch", "8", "--debug"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a picture is worth" in said and "nats a token over" in said
    assert "with their own pictures" in said and "of their variance lies between tiles" in said


def test_as_json_it_is_the_measurement_of_the_same_samples(tiny_checkpoint, stage_data, capsys):
    arguments = ["look", str(tiny_checkpoint), "--data", str(stage_data / "data.json"), "--json", "--samples", "9"]
    looks = []
    for _ in range(2):
        assert main(arguments) == 0
        looks.append(json.loads(capsys.readouterr().out))
    assert looks[0] == looks[1]
    assert 4 <= looks[0]["samples"] <= 9
    assert looks[0]["worth"] == pytest.approx(looks[0]["exchanged_loss"] - looks[0]["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--samples", "1"], "--samples must be a whole number of at least 4"),
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
    assert "too few samples" in " ".join(capsys.readouterr().err.split())


def test_broken_samples_are_named_and_not_replaced(tiny_checkpoint, stage_data, tmp_path, capsys):
    entries = json.loads((stage_data / "data.json").read_text())
    whole = [entry for entry in entries if "image" in entry][:8]
    lost = [{**entry, "id": f"lost {place}", "image": "nowhere.png"} for place, entry in enumerate(whole[:3])]
    arguments = ["--images", str(stage_data), "--json"]
    looks = []
    for name, samples in (("whole", whole), ("broken", [*whole, *lost])):
        (tmp_path / f"{name}.json").write_text(json.dumps(samples))
        assert main(["look", str(tiny_checkpoint), "--data", str(tmp_path / f"{name}.json"), *arguments]) == 0
        captured = capsys.readouterr()
        looks.append(json.loads(captured.out))
    assert looks[0] == looks[1]
    assert "3 of 11 samples could not be used; the first is lost 0" in " ".join(captured.err.split())
    (tmp_path / "lost.json").write_text(json.dumps(lost))
    assert main(["look", str(tiny_checkpoint), "--data", str(tmp_path / "lost.json"), *arguments]) == 2
    assert "too few samples" in " ".join(capsys.readouterr().err.split())
