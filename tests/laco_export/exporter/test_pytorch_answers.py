"""PyTorch's answers are those of the checkpoint's own ``generate``, and their logits those of the stored weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from laco_export.conversation import question_turn, render
from laco_export.exporter import pytorch_answers
from laco_export.exporter.golden_pictures import golden_pictures, prepare_pictures
from laco_export.exporter.pytorch_answers import AskedModel, ask_pytorch

ENTRY = SimpleNamespace(eos_token_ids=[258], graph="llm/model.onnx", precision="fp32")


def asked_model(model, processor) -> AskedModel:
    prepare = processor.image_processor.preprocessing
    pictures = prepare_pictures(golden_pictures([], 2 * prepare.height), prepare, (prepare.height, prepare.width))
    with torch.inference_mode():
        features = [model.get_image_features(torch.from_numpy(values)).numpy() for values in pictures.pixel_values]
    loaded = SimpleNamespace(model=model, checkpoint=SimpleNamespace(processor=processor))
    return AskedModel.of(loaded, pictures, features)


def generated(model, processor, question, shown, tokens, **options) -> list[int]:
    """What transformers' ``generate`` says, from the pixels on."""
    text = render([question_turn(question, len(shown))], add_generation_prompt=True)
    inputs = processor(images=shown or None, text=text, return_tensors="pt")
    with torch.inference_mode():
        whole = model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=ENTRY.eos_token_ids,
            pad_token_id=0,
            **options,
        )
    return whole[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("which", ["answering_model", "tiled_model"])
def test_the_answers_are_those_of_generate(which, request, tmp_path):
    model, processor = request.getfixturevalue(which)
    asked = asked_model(model, processor)
    golden = ask_pytorch(asked, ENTRY, tmp_path).golden
    assert [len(answer.question.pictures) for answer in golden.answers] == [0, 4 if which == "tiled_model" else 1, 2]
    for answer in golden.answers:
        shown = answer.question.shown(asked.pictures.pixels)
        assert answer.token_ids.tolist() == generated(model, processor, answer.question.text, shown, 8)
        assert answer.best.tolist() == answer.token_ids.tolist()  # in FP32 the stored weights are the model's
        assert (answer.margins > 0).all()
    assert (golden.newline is not None) == (golden.packing is not None) == (which == "tiled_model")


def test_no_tile_is_encoded_twice(tiled_model, tmp_path, monkeypatch):
    asked = asked_model(*tiled_model)
    encoded = []
    encode = asked.loaded.model.get_image_features
    monkeypatch.setattr(
        asked.loaded.model, "get_image_features", lambda tile: encoded.append(len(tile)) or encode(tile)
    )
    ask_pytorch(asked, ENTRY, tmp_path)
    assert encoded == [1]  # the base tile: the others are golden pictures


def test_prompts_need_no_tower_once_all_is_encoded(tiled_model, monkeypatch):
    """The language model is loaded when the tower is in memory no more."""
    asked, ahead = asked_model(*tiled_model), asked_model(*tiled_model)
    shown = [each for question in asked.questions() for each in (question, asked.turned(question)) if each is not None]
    assert len(shown) == 5  # three questions, two of them about pictures
    expected = [asked.prompt(question) for question in shown]
    ahead.encode_ahead()
    monkeypatch.setattr(ahead.loaded.model, "get_image_features", None)
    for question, before in zip(shown, expected, strict=True):
        prompt = ahead.prompt(question)
        assert prompt.ids.tolist() == before.ids.tolist()
        np.testing.assert_array_equal(prompt.features, before.features)


def test_rounded_weights_take_the_models_place_for_the_logits_alone(answering_model, tmp_path):
    from laco_export.exporter.decoder import export_decoder

    model, processor = answering_model
    entry = export_decoder(
        model.language_model, image_token_id=262, eos_token_ids=[258], output_folder=tmp_path, precision="int8"
    )
    asked = asked_model(model, processor)
    given, stored = (ask_pytorch(asked, each, tmp_path).golden for each in (ENTRY, entry))
    for before, after in zip(given.answers, stored.answers, strict=True):
        assert before.token_ids.tolist() == after.token_ids.tolist()
        moved = np.abs(after.logits[:, 16:] - before.logits[:, 16:]).max()
        assert 1e-4 < moved < 0.2 * before.deviations.max()


def test_a_question_that_does_not_fit_the_context_is_left_out_and_noted(answering_model, tmp_path, monkeypatch):
    model, processor = answering_model
    asked = asked_model(model, processor)
    longest = len(asked.prompt(pytorch_answers._questions(4, tiles=False)[-1]).ids)
    monkeypatch.setattr(model.config.text_config, "max_position_embeddings", longest + 7)
    answers = ask_pytorch(asked, ENTRY, tmp_path)
    assert len(answers.golden.answers) == 2
    (note,) = answers.notes
    assert "'What is different in the second picture?' is no golden question: the prompt is longer" in note
    monkeypatch.setattr(model.config.text_config, "max_position_embeddings", 20)
    assert ask_pytorch(asked, ENTRY, tmp_path).golden is None


def test_one_golden_picture_is_enough():
    alone = pytorch_answers._questions(1, tiles=True)
    assert [question.pictures for question in alone] == [(), (0,), (0, 0)]


def test_answers_of_a_reduced_vocabulary_are_the_best_of_its_tokens(answering_model, tmp_path):
    """As ``generate`` has them with the others suppressed; and the note says how often another would have been said."""
    model, processor = answering_model
    asked = asked_model(model, processor)
    whole = ask_pytorch(asked, ENTRY, tmp_path).golden
    first = [int(answer.token_ids[0]) for answer in whole.answers]
    kept = np.setdiff1d(np.arange(264), first)
    answers = ask_pytorch(asked, ENTRY, tmp_path, kept)
    for answer in answers.golden.answers:
        shown = answer.question.shown(asked.pictures.pixels)
        options = {"suppress_tokens": first}
        assert answer.token_ids.tolist() == generated(model, processor, answer.question.text, shown, 8, **options)
        assert np.isin(answer.logit_ids, kept).all() and answer.logit_ids.shape[1] == 256
        assert answer.best.tolist() == answer.token_ids.tolist()
    steps = sum(len(answer.token_ids) for answer in answers.golden.answers)
    (note,) = answers.notes
    others = int(note.partition("at ")[2].split()[0])
    assert 3 <= others <= steps and f"at {others} of {steps} the whole head's best has no row" in note
    # What is judged of pictures is the whole model: its logits are whole.
    assert np.isfinite(answers.about_pictures[1]).all()
