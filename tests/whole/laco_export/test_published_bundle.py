"""From a published folder to a bundle: the engines read the prompts that transformers' processor writes, and answer as
transformers' class does. LLaVA-OneVision, whose layout has all that a family may add: tiles, newlines, pooled frames.
"""

from dataclasses import replace

import pytest
from published_folders import TILE, picture

from laco_calibration.answers import AnswerJudge
from laco_engines.answering import Answerer
from laco_engines.comparison.decoder_check import check_decoder
from laco_export.bundle import open_bundle
from laco_export.exporter import pipeline
from laco_export.exporter.options import ExportOptions
from laco_export.golden import read_golden
from laco_export.golden_answers import read_golden_answers
from laco_export.models.published import import_published

TOKENS = 6
SHOWN = {
    "text alone": ([], []),
    "a tiled picture": ([(150, 90)], []),
    "two pictures": ([(60, 80), (120, 50)], []),
    "a video": ([], [3]),
}


@pytest.fixture(scope="module")
def answerer(imported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    import_published(imported("llava_onevision")[0].folder, folder / "ckpt")
    options = ExportOptions(folder / "ckpt", precision="fp32", output=folder / "bundle", compile=False)
    return Answerer(open_bundle(pipeline.export_bundle(options).output), threads=1)


def laid_out(bundle, layout):
    """The bundle as if it were of another family."""
    vision = replace(bundle.manifest.vision, token_layout=layout)
    return replace(bundle, manifest=replace(bundle.manifest, vision=vision))


@pytest.mark.parametrize("shown", SHOWN)
def test_a_bundle_answers_as_transformers_does(imported, answerer, shown):
    theirs, _ = imported("llava_onevision")
    sizes, lengths = SHOWN[shown]
    tile, marks = TILE["llava_onevision"], "<image>" * len(sizes) + "<video>" * len(lengths)
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    videos = [[picture(tile, tile, seed) for seed in range(frames)] for frames in lengths]
    # As LLaVA-OneVision's template writes a user's turn: the pictures in the role's line, the words in the next.
    text = f"<|im_start|>user {marks}\nwhat is it?<|im_end|><|im_start|>assistant\n"
    options = {**({"images": [pictures]} if pictures else {}), **({"videos": videos} if videos else {})}
    inputs = theirs.processor(text=[text], return_tensors="pt", **options)
    prompt = answerer.prompter.prepare(pictures, "what is it?", videos=videos)
    inputs.pop("token_type_ids", None)  # transformers 5 makes none
    ids = [theirs.image_id if token == theirs.video_id else token for token in inputs["input_ids"][0].tolist()]
    assert prompt.input_ids.tolist() == ids
    generated = theirs.model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0, len(ids) :]
    answer = answerer.generate(prompt, max_new_tokens=TOKENS, repetition_penalty=1.0)
    assert answer.token_ids == generated.tolist()[: len(answer.token_ids)]
    assert answer.token_ids


@pytest.mark.parametrize(
    ("layout", "compared"),
    [
        ("llava_onevision", ["without a picture", "2 pictures"]),
        ("llava_next", ["without a picture"]),  # tiles each picture, and golden files hold no tiles
    ],
)
def test_the_decoder_is_compared_behind_pictures_that_end_in_a_newline(answerer, layout, compared):
    """As ``laco-engine diff`` does."""
    bundle = laid_out(answerer.bundle, layout)
    pictures = read_golden(bundle)
    golden = read_golden_answers(bundle, len(pictures.names))
    checks = check_decoder(bundle, answerer.text.session, pictures, golden)
    assert all(check.passed for check in checks)
    prefills = [check.part for check in checks if "prefill" in check.part]
    assert prefills == [f"decoder's prefill, {shown}" for shown in compared]


def test_another_newline_in_the_golden_file_is_told(answerer):
    pictures = read_golden(answerer.bundle)
    golden = read_golden_answers(answerer.bundle, len(pictures.names))
    other = replace(golden, newline=-golden.newline)
    checks = check_decoder(answerer.bundle, answerer.text.session, pictures, other)
    assert next(check.part for check in checks if not check.passed) == "decoder's prefill, 2 pictures"


@pytest.mark.parametrize("layout", ["llava_onevision", "llava_next"])  # the latter tiles each picture of a prompt
def test_calibration_judges_a_picture_as_one_tile_and_its_newline(answerer, tmp_path, layout):
    bundle = laid_out(answerer.bundle, layout)
    path = tmp_path / "wide.png"
    picture(150, 90).save(path)
    tile = answerer.prompter.preparer.picture(path, alone=False, low_detail=True)
    features = answerer.vision.encode(tile.pixel_values)
    judge = AnswerJudge.on_features(bundle, [(path, "what is it?")], [features])
    prompt = answerer.prompter.prepare([tile], "what is it?")
    answer = answerer.generate(prompt, max_new_tokens=32, repetition_penalty=1.0)
    (reference,) = judge.references
    assert reference.ids[: len(prompt.input_ids)].tolist() == prompt.input_ids.tolist()
    assert reference.answer.tolist()[: len(answer.token_ids)] == answer.token_ids
    assert judge.share_kept(0, features) == 1.0
