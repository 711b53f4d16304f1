"""A checkpoint in PyTorch and its FP32 bundle answer alike, whatever a benchmark shows."""

import pytest
from PIL import Image

from laco_engines.evaluation.asked import asked
from laco_engines.evaluation.pytorch_answerer import PytorchAnswerer
from laco_export.errors import UsageError

SHORT = {"max_new_tokens": 8}


@pytest.fixture(scope="module")
def pytorch(bundle_folder):
    return PytorchAnswerer(bundle_folder.parent / "tiny", max_frames=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of five frames."""
    folder = tmp_path_factory.mktemp("clip")
    for number in range(5):
        Image.new("RGB", (40, 30), (50 * number, 90, 200)).save(folder / f"{number}.png")
    return folder


def of_bundle(answerer, question):
    prompt = answerer.prompter.prepare(question.pictures, question.words, videos=question.videos, max_frames=3)
    return answerer.generate(prompt, question.options).text


def colour(number):
    return Image.new("RGB", (60, 48), (80 * number, 200 - 60 * number, 30))


@pytest.mark.parametrize("shown", [0, 1, 2, "clip"])
def test_both_answer_alike(pytorch, lean_answerer, clip, shown):
    visuals = [str(clip)] if shown == "clip" else [colour(number) for number in range(shown)]
    for words in ("Which?", "What colour is it?"):
        question = asked(words, visuals, SHORT)
        assert pytorch.answer(question) == of_bundle(lean_answerer, question) != ""


def test_pictures_sway_the_answer(pytorch):
    answers = {pytorch.answer(asked("Which?", [colour(number)], SHORT)) for number in range(3)}
    assert len(answers) > 1


def test_a_stop_ends_both_answers_before_it(pytorch, lean_answerer):
    whole = pytorch.answer(asked("Which?", [colour(1)], {"max_new_tokens": 8}))
    end = whole[3:5]
    question = asked("Which?", [colour(1)], {"max_new_tokens": 8, "until": [end]})
    assert pytorch.answer(question) == of_bundle(lean_answerer, question) == whole[: whole.find(end)]


def test_a_prompt_that_outgrows_the_context_is_refused(pytorch):
    with pytest.raises(UsageError, match="longer than the model's context"):
        pytorch.answer(asked("long " * 200, [], SHORT))
