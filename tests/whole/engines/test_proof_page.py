"""The ``laco-engine`` commands that docs/proof.md shows are run."""

import re
from pathlib import Path

import pytest

from laco_engines.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "proof.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^(laco-engine diff BUNDLE.*?)\s*(?:#.*)?$", PAGE, re.M)
ATTRIBUTED = re.findall(r"^(laco-engine diff INT8 .*?)(?: > drift\.json)?\s*(?:#.*)?$", PAGE, re.M)


@pytest.mark.parametrize("command", SHOWN)
def test_the_commands_of_the_page_on_proof(command, bundle_folder, picture_file, capfd):
    places = {"BUNDLE": bundle_folder, "CKPT": bundle_folder.parent / "tiny", "DIR": picture_file.parent}
    arguments = [places.get(word, word) for word in command.split()[1:]]
    assert main([str(argument) for argument in arguments]) == 0
    captured = capfd.readouterr()
    assert "agrees with PyTorch" in captured.out
    assert "Traceback" not in captured.err


def test_the_page_shows_them():
    assert len(SHOWN) == 4
    assert len(ATTRIBUTED) == 2


@pytest.mark.parametrize("command", ATTRIBUTED)
def test_the_commands_that_attribute_drift(command, bundle_folder, picture_file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # where the plot is written
    (tmp_path / "questions.txt").write_text("What is this?")
    places = {"INT8": bundle_folder, "FP32": bundle_folder, "DIR": picture_file.parent, "FILE": "questions.txt"}
    arguments = [places.get(word, word) for word in command.split()[1:]]
    assert main([str(argument) for argument in arguments]) == 0
    assert "resizing and normalising" in capfd.readouterr().out
    assert (tmp_path / "drift.png").exists() == ("--plot" in command)
