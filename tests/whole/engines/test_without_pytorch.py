"""A device's path: a picture, a question and an answer with the base dependencies and ONNX Runtime alone."""

import json

import pytest
from light_commands import HEAVY, LightCommands

ENGINE = "laco_engines.cli"
QUESTION = "What is this?"


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """``ask(*arguments)``: ``laco-engine`` where no package of :data:`HEAVY` is installed."""
    commands, folder = LightCommands(), tmp_path_factory.mktemp("device")
    absent = [name for name in HEAVY if "." not in name]
    yield lambda *arguments: commands.ask(ENGINE, arguments, folder, absent)
    commands.close()


def document_of(result: dict) -> dict:
    """The JSON document on stdout; stderr's lines come before it or after it."""
    assert result["code"] == 0 and result["heavy"] == [], result
    said = result["said"]
    return json.JSONDecoder().raw_decode(said, said.index("{"))[0]


def test_an_answer_is_the_one_that_pytorch_gives_beside(ask, answerer, bundle_folder, picture_file):
    with_optimum = answerer.answer([picture_file], QUESTION, max_new_tokens=8)
    asked = ("--image", picture_file, "--question", QUESTION, "--max-new-tokens", "8", "--threads", "1", "--json")
    document = document_of(ask("run", bundle_folder, *asked))
    assert document["token_ids"] == with_optimum.token_ids
    assert document["answer"] == with_optimum.text
    assert document["text_runtime"].startswith("lean")


def test_the_doctor_finds_it_ready(ask, bundle_folder):
    document = document_of(ask("doctor", bundle_folder, "--json"))
    assert document["ready"] and document["text_runtime"] == "lean"


@pytest.mark.parametrize("command", ["inspect", "diff"])
def test_a_bundle_is_looked_at(ask, bundle_folder, command):
    document_of(ask(command, bundle_folder, "--json"))
