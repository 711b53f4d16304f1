"""From the parts to an answer, by the commands that docs/real-parts.md shows: train, export, ask."""

import json
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from laco_engines.cli import main as engine
from laco_export.cli import main as export
from laco_export.models import checkpoint
from laco_training.cli import main as train

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "real-parts.md").read_text(encoding="utf-8")
COMMANDS = {"laco-train": train, "laco-export": export, "laco-engine": engine}
SHOWN = [
    shlex.split(line, comments=True)
    for line in re.sub(r"\\\n", "", PAGE[PAGE.index("## From the parts to an answer") :]).splitlines()
    if line.split(" ")[0] in COMMANDS
]
TWO_STEPS = ["--set", "stages.1.epochs=0.02"]


@pytest.fixture(scope="module", params=["smollm2", "qwen2.5-coder"])
def walked(request, real_part, tmp_path_factory):
    """The commands up to the questions, run for a language model: a checkpoint and its bundle, what to ask, and what
    the export said of the bundle's own answers."""
    words = {
        "$PARTS/encoder": str(real_part("encoder")),
        "$PARTS/pictures": str(real_part("pictures")),
        "$PARTS/smollm2": str(real_part(request.param)),
        "examples/": f"{ROOT}/examples/",
    }

    def here(word):
        for name, place in words.items():
            word = word.replace(name, place)
        return word

    trained, exported, *questions = ([here(word) for word in command] for command in SHOWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param))
        assert train([*trained[1:], *TWO_STEPS]) == 0
        with redirect_stdout(StringIO()) as printed:
            assert export([*exported[1:], "--no-compile", "--json"]) == 0
        trial = json.loads(printed.getvalue())["trial"]
        yield SimpleNamespace(
            run=Path("run").absolute(), bundle=Path("bundle").absolute(), questions=questions, trial=trial
        )


def test_the_page_shows_the_way():
    assert [command[0] for command in SHOWN] == ["laco-train", "laco-export", "laco-engine", "laco-engine"]


def test_the_language_model_stayed_as_it_was(walked):
    """And merge and projector did not."""
    before, after = (
        checkpoint.load(walked.run / name).model.state_dict() for name in ("stage-0/checkpoint", "checkpoint")
    )
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if ".compressors." in name or name.startswith("projector.")}


def test_what_the_bundle_relies_on(walked):
    loaded = checkpoint.load(walked.run / "checkpoint")
    tokenizer, decoder = loaded.processor.tokenizer, json.loads((walked.bundle / "laco.json").read_text())["decoder"]
    assert decoder["image_token_id"] == loaded.model.config.image_token_id == loaded.processor.image_token_id
    assert decoder["vocab_size"] == loaded.model.config.text_config.vocab_size >= len(tokenizer)
    assert decoder["eos_token_ids"][0] == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    written = json.loads((walked.bundle / "llm" / "generation_config.json").read_text())
    assert written["pad_token_id"] == tokenizer.pad_token_id
    assert written["eos_token_id"] == decoder["eos_token_ids"]


def test_the_bundle_answers_its_golden_questions_as_pytorch(walked):
    """Without a picture, about one, about two. Merge and projector learnt nothing, so that answers about pictures say
    nothing, and must be PyTorch's all the same."""
    assert all(part["passed"] for part in walked.trial["parts"])
    answers = [part for part in walked.trial["parts"] if part["part"].startswith("answer")]
    assert [part["part"].partition(" (")[0] for part in answers] == [
        "answer, without a picture",
        "answer, a picture",
        "answer, 2 pictures",
    ]
    assert "Paris" in answers[0]["part"]
    assert sum(part["numbers"]["same"] for part in answers) >= 12


def test_int8_costs_next_to_nothing(walked):
    """Both were refused as wrong where random tokens and noise were compared."""
    proof = json.loads((walked.bundle / "laco.json").read_text())["accuracy"]["decoder"]
    for way in ("whole", "cached"):  # random tokens gave 0.9988 of cosine, 0.914 of norm
        assert proof[way]["cosine"] > 0.99999
        assert proof[way]["norm_ratio"] == pytest.approx(1, abs=1e-4)
    assert proof["cost"]["kl_mean"] < 0.02
    assert proof["cost"]["perplexity_ratio"] == pytest.approx(1, abs=0.01)
    assert proof["cost"]["same_where_decided"] > 0.99


def test_the_capital_of_france(walked, capfd):
    command = next(command for command in walked.questions if "--image" not in command)
    assert engine(command[1:]) == 0
    assert "Paris" in capfd.readouterr().out


def test_a_picture_is_answered_to(walked, capfd):
    """With something: two steps teach nothing."""
    command = next(command for command in walked.questions if "--image" in command)
    assert engine([*command[1:], "--max-new-tokens", "8"]) == 0
    assert capfd.readouterr().out.strip()


def test_a_chat_is_tokenised_by_the_usual_call(walked):
    """SmolLM2's prompts begin with what its tokenizer names as first token."""
    processor = checkpoint.load(walked.run / "checkpoint").processor
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    batch = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    (ids,) = batch["input_ids"]
    assert ids.count(processor.tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3  # a system, a user, an assistant
