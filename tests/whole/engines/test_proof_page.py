"""The ``laco-engine`` commands that docs/proof.md shows are run."""

import re
from pathlib import Path

import pytest

from laco_engines.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "proof.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^(laco-engine diff BUNDLE.*?)\s*(?:#.*)?$", PAGE, re.M)


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
