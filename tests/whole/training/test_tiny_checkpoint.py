"""The kept tiny checkpoint looks at its pictures, and its FP32 and FP16 bundles answer as it does."""

from pathlib import Path

import pytest
from PIL import Image

from laco_export.models import checkpoint
from laco_training.data import read_entries
from laco_training.evaluation import evaluate
from laco_training.tiny.dataset import HELD_OUT_KINDS

ASSETS = Path(__file__).resolve().parents[2] / "assets"
QUESTIONS = ASSETS / "tiny-heldout" / "heldout.json"


@pytest.fixture(scope="module")
def evaluation():
    loaded = checkpoint.load(ASSETS / "tiny-checkpoint")
    assert loaded.checked
    return evaluate(loaded.model, loaded.processor, QUESTIONS)


def test_it_is_a_laco_model_merging_half_way():
    config = checkpoint.read_config(ASSETS / "tiny-checkpoint")
    assert config.compression["method"] == "laco"
    assert list(config.compression["depths"]) == ["1/2"]
    assert config.untrained == []
    assert sum(path.stat().st_size for path in (ASSETS / "tiny-checkpoint").iterdir()) < 6_000_000


def test_it_answers_held_out_questions(evaluation):
    assert len(evaluation.answers) == 300
    assert evaluation.accuracy >= 0.9
    kinds = evaluation.by_kind()
    assert set(kinds) == set(HELD_OUT_KINDS)
    for kind, (right, shuffled) in kinds.items():
        assert right >= 0.8, kind
        assert right - shuffled >= 0.4, kind


@pytest.fixture(scope="module")
def bundles(trained_bundle, tmp_path_factory):
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = tmp_path_factory.mktemp("bundles") / "fp16"
    options = ExportOptions(ASSETS / "tiny-checkpoint", precision="fp16", output=output, compile=False)
    return {"fp32": trained_bundle, "fp16": export_bundle(options).output}


@pytest.fixture(scope="module")
def answerers(bundles):
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle

    return {precision: Answerer(open_bundle(folder)) for precision, folder in bundles.items()}


def test_the_fp32_bundle_answers_as_pytorch(answerers, evaluation):
    for expected in evaluation.answers[::3]:
        files = [QUESTIONS.parent / name for name in expected.images]
        assert answerers["fp32"].answer(files, expected.question).text == expected.answer


def test_where_the_fp16_bundle_differs_the_choice_was_close(answerers, evaluation):
    differing = 0
    for expected in evaluation.answers[1::6]:
        files = [QUESTIONS.parent / name for name in expected.images]
        if answerers["fp16"].answer(files, expected.question).text == expected.answer:
            continue
        differing += 1
        exact = answerers["fp32"].answer(files, expected.question, output_scores=True)
        assert min(score.margin for score in exact.scores) < 0.1  # logits; the FP16 tower moves them by about 0.01
    assert differing <= 2


def test_pictures_of_every_kind_are_answered_upright(answerers, tmp_path):
    """A word stays readable however its picture is stored: rotated by EXIF, palette, CMYK, 16-bit, grey, alpha."""
    entry = next(e for e in read_entries(QUESTIONS) if e["kind"] == "words" and _reads(answerers["fp32"], e))
    picture = Image.open(QUESTIONS.parent / entry["image"]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: show it turned by 90 degrees clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    picture.quantize(256).save(tmp_path / "palette.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.tiff")
    picture.convert("RGBA").save(tmp_path / "alpha.png")
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.png")
    grey.convert("I").point(lambda value: value * 257).convert("I;16").save(tmp_path / "sixteen.png")
    truth, question = entry["conversations"][1]["value"], "What word is written?"
    answers = {p.name: answerers["fp32"].answer([p], question).text for p in sorted(tmp_path.iterdir())}
    for name in ("turned.png", "palette.png", "cmyk.tiff", "alpha.png"):
        assert answers[name] == truth, answers
    # A grey word is a colour that was never trained on: it is answered, and the same from 8 and from 16 bits.
    assert answers["grey.png"] == answers["sixteen.png"] != ""


def _reads(answerer, entry) -> bool:
    answer = answerer.answer([QUESTIONS.parent / entry["image"]], "What word is written?")
    return answer.text == entry["conversations"][1]["value"]
