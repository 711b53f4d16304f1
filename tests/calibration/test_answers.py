"""Questions about pictures: those that cannot be asked, and what is compared with the data's answers."""

import json

import pytest

from laco_calibration import answers
from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.picture_set import Question
from laco_export.bundle import open_bundle, read_manifest, write_manifest


def _questions(photographs, *texts) -> list[Question]:
    return [Question((path,), text, "x") for path, text in zip(sorted(photographs.iterdir()), texts)]


def test_what_cannot_be_asked_has_no_answer(fp32_folder, photographs, tmp_path):
    asked = _questions(photographs, "What is it?", "why " * 400, "<|im_end|>")
    asked.append(Question((tmp_path / "missing.png",), "What is it?", "x"))
    found = answers.ask(fp32_folder, asked)
    assert found[0] is not None and found[1:] == [None, None, None]


def test_a_judging_picture_whose_question_cannot_be_asked_is_described(fp32_folder, fp32_bundle, photographs, pixels):
    from laco_export.onnx_session import open_session

    session = open_session(fp32_bundle.file("vision_b1.onnx"))
    features = [session.run(None, {"pixel_values": picture})[0] for picture in pixels[:2]]
    paths = sorted(photographs.iterdir())[:2]
    long = answers.AnswerJudge(fp32_bundle, [(path, "why " * 400) for path in paths], features)
    plain = answers.AnswerJudge(fp32_bundle, [(path, answers.DEFAULT_QUESTION) for path in paths], features)
    assert [long.share_kept(i, features[i]) for i in (0, 1)] == [1.0, 1.0]
    assert all(bool((a[0] == b[0]).all()) for a, b in zip(long._rows, plain._rows))


def test_the_answers_that_the_data_has_are_judged_though_some_are_missing(photographs):
    """One question in five without an answer, one that could not be asked: three are judged, one of them is lost."""
    asked = [Question((), "?", truth) for truth in ("a", "b", "", "c", "d")]
    found = answers.score(asked, ["a", "b", "z", "c", None], ["a", "b", "z", "-", None])
    assert (found.questions, found.same) == (4, 3)
    assert (found.with_answer, found.right_base, found.right) == (3, 3, 2)
    assert found.points == pytest.approx(100 / 3)
    assert answers.score(asked[2:3], ["z"], ["z"]).points == 0.0


def test_a_tokenizer_without_the_image_token_is_refused_before_the_pictures(
    fp32_folder, photographs, tmp_path, monkeypatch
):
    import shutil
    from dataclasses import replace

    from laco_calibration import observation
    from laco_export.errors import BundleError

    folder = tmp_path / "lacking"
    shutil.copytree(fp32_folder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] != "<|image_pad|>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_manifest(folder, replace(read_manifest(folder), files={}))
    open_bundle(folder)
    monkeypatch.setattr(observation, "observe", lambda *_, **__: pytest.fail("looked first"))
    with pytest.raises(BundleError, match="does not have the image token"):
        calibrate(CalibrationOptions(folder, images=[photographs], method="max", output=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == [folder]


def test_questions_need_a_language_model(fp32_folder, make_fp32_bundle, photographs, tmp_path):
    turns = [{"from": "human", "value": "What is it?"}]
    path = sorted(photographs.iterdir())[0]
    (tmp_path / "ask.json").write_text(json.dumps([{"image": str(path), "conversations": turns}]))
    folder = make_fp32_bundle(llm=False)
    options = {"images": [photographs], "questions": tmp_path / "ask.json", "output": tmp_path / "out"}
    with pytest.raises(CalibrationError, match="no language model"):
        calibrate(CalibrationOptions(folder, **options))
