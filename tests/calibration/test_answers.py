"""Questions about pictures: those that cannot be asked, and what is compared with the data's answers."""

import numpy as np
import pytest

from laco_calibration import answers
from laco_calibration.source.picture_set import PictureQuestion
from laco_export.conversation import DEFAULT_QUESTION


def _questions(photographs, *texts) -> list[PictureQuestion]:
    return [PictureQuestion((path,), text, "x") for path, text in zip(sorted(photographs.iterdir()), texts)]


def test_what_cannot_be_asked_has_no_answer(fp32_folder, photographs, tmp_path):
    asked = _questions(photographs, "What is it?", "why " * 400, "<|im_end|>")
    asked.append(PictureQuestion((tmp_path / "missing.png",), "What is it?", "x"))
    answered = answers.ask(fp32_folder, asked)
    assert answered[0] is not None and answered[1:] == [None, None, None]


def test_a_judging_picture_whose_question_cannot_be_asked_is_described(fp32_folder, fp32_bundle, photographs, pixels):
    from laco_export.onnx_session import open_session

    session = open_session(fp32_bundle.file("vision_b1.onnx"))
    features = [session.run(None, {"pixel_values": picture})[0] for picture in pixels[:2]]
    paths = sorted(photographs.iterdir())[:2]
    long = answers.AnswerJudge.on_features(fp32_bundle, [(path, "why " * 400) for path in paths], features)
    plain = answers.AnswerJudge.on_features(fp32_bundle, [(path, DEFAULT_QUESTION) for path in paths], features)
    assert [long.share_kept(i, features[i]) for i in (0, 1)] == [1.0, 1.0]
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(long.references, plain.references))


def test_the_answers_that_the_data_has_are_judged_though_some_are_missing(photographs):
    """One question in five without an answer, one that could not be asked: three are judged, one of them is lost."""
    asked = [PictureQuestion((), "?", truth) for truth in ("a", "b", "", "c", "d")]
    score = answers.score(asked, ["a", "b", "z", "c", None], ["a", "b", "z", "-", None])
    assert (score.questions, score.same) == (4, 3)
    assert (score.with_answer, score.right_base, score.right) == (3, 3, 2)
    assert score.points == pytest.approx(100 / 3)
    assert answers.score(asked[2:3], ["z"], ["z"]).points == 0.0
