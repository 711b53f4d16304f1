"""The bundle of a pretrained language model in FP32 answers its golden questions as PyTorch does: without a picture,
about one, about two. The encoder is pretrained too; merge and projector are not, so that answers about pictures say
nothing, and must be PyTorch's all the same. In eight bits ``tests/whole/examples/test_real_parts_page.py`` asks."""

import json

import pytest

from laco_export import cli as export_command
from laco_training import cli as training_command

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_bundle_answers_as_pytorch(real_part, tmp_path, capsys):
    start = ["init", "--encoder", real_part("encoder") / "224", "--llm", real_part("smollm2"), "--match-text-rms"]
    assert training_command.main([*map(str, start), "--output", str(tmp_path / "checkpoint")]) == 0
    options = ["--fp32", "--llm", "fp32", "--no-compile", "--json"]
    capsys.readouterr()
    command = ["--model", str(tmp_path / "checkpoint"), "--output", str(tmp_path / "bundle"), *options]
    assert export_command.main(command) == 0
    trial = json.loads(capsys.readouterr().out)["trial"]
    answers = [part for part in trial["parts"] if part["part"].startswith("answer")]
    assert [part["part"].partition(" (")[0] for part in answers] == [
        "answer, without a picture",
        "answer, a picture",
        "answer, 2 pictures",
    ]
    assert "Paris" in answers[0]["part"]
    assert all(part["passed"] for part in trial["parts"])
    assert sum(part["numbers"]["same"] for part in answers) >= 12
