"""The bundle answers what PyTorch answers, token by token."""

import functools
import string
import time

import numpy as np
import pytest
import torch
from PIL import Image

from laco_engines.answering import Answerer
from laco_export.bundle import open_bundle
from laco_export.conversation import question_turn, render
from laco_export.errors import BundleError, UsageError
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle
from laco_export.models import checkpoint


def pytorch_tokens(answering_model, pictures, question, max_new_tokens):
    model, processor = answering_model
    text = render([question_turn(question, len(pictures))], add_generation_prompt=True)
    inputs = processor(images=pictures, text=text, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return output[0, inputs["input_ids"].shape[1] :].tolist(), inputs["input_ids"][0].tolist()


def random_question(seed):
    generator = np.random.default_rng(seed)
    letters = list(string.ascii_letters + " ?é中")
    return "q" + "".join(generator.choice(letters, int(generator.integers(1, 30))))


@pytest.mark.parametrize("num_images", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_greedy_tokens_equal_pytorch(answering_model, answerer, make_picture, num_images, seed):
    pictures = [make_picture(10 * seed + index, size=(60 + 30 * index, 90)) for index in range(num_images)]
    expected, prompt = pytorch_tokens(answering_model, pictures, random_question(seed), 24)
    answer = answerer.answer(pictures, random_question(seed), max_new_tokens=24)
    assert answer.token_ids == expected
    assert answer.prompt_tokens == len(prompt)


def test_marks_in_the_question_place_the_pictures(answering_model, answerer, make_picture):
    pictures = [make_picture(1), make_picture(2)]
    question = "Is <image> like <image>?"
    expected, prompt = pytorch_tokens(answering_model, pictures, question, 16)
    prepared = answerer.prompter.prepare(pictures, question)
    assert prepared.input_ids.tolist() == prompt
    assert answerer.generate(prepared, max_new_tokens=16).token_ids == expected


def test_the_pictures_matter(answerer, make_picture):
    answers = {tuple(answerer.answer([make_picture(seed)], "What?", max_new_tokens=8).token_ids) for seed in range(6)}
    assert len(answers) > 3


def test_the_order_of_the_pictures_matters(answerer, make_picture):
    pictures = [make_picture(seed) for seed in range(3)]
    forward = answerer.answer(pictures, "What?", max_new_tokens=12).token_ids
    assert answerer.answer(pictures[::-1], "What?", max_new_tokens=12).token_ids != forward


def test_streamed_text_is_the_answer(answerer, make_picture):
    for seed in range(4):
        pieces = []
        answer = answerer.answer([make_picture(seed)], "What?", max_new_tokens=20, on_text=pieces.append)
        # Bytes that never become a character show as U+FFFD in the whole text alone.
        assert answer.text.replace("\ufffd", "") == "".join(pieces).replace("\ufffd", "")
        assert answer.text


@pytest.mark.usefixtures("needs_optimum")
def test_timings_count_what_they_name(answerer, make_picture, monkeypatch):
    clock, steps = [100.0], []

    def taking(function, seconds):
        @functools.wraps(function)  # generate() inspects signatures
        def slow(*args, **kwargs):
            clock[0] += seconds()
            return function(*args, **kwargs)

        return slow

    def step_seconds():
        steps.append(1)
        return 0.5 if len(steps) == 1 else 0.02

    prompt = answerer.prompter.prepare([make_picture(1234)], "What?")  # not encoded before
    decoder, vision, cache = type(answerer.decoder), type(answerer.vision), type(answerer.generator.cache)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(decoder, "forward", taking(decoder.forward, step_seconds))
    monkeypatch.setattr(vision, "encode", taking(vision.encode, lambda: 0.03))
    monkeypatch.setattr(vision, "prepare", taking(vision.prepare, lambda: 4.0))
    monkeypatch.setattr(cache, "take", taking(cache.take, lambda: 0.25))
    monkeypatch.setattr(answerer, "load_ms", 1000.0)
    timings = answerer.generate(prompt, max_new_tokens=6).timings
    assert timings.load_ms == pytest.approx(5000)
    assert timings.encode_ms == pytest.approx(30)
    assert timings.prefill_ms == pytest.approx(750)  # with the look-up of what the cache holds
    assert timings.decode_tokens_per_s == pytest.approx(50)
    assert timings.preprocess_ms == prompt.preprocess_ms
    whole = 1000 * (clock[0] - 100 - 5 * 0.02)  # but the tokens after the first
    assert timings.first_token_ms - timings.preprocess_ms + timings.load_ms - 1000 == pytest.approx(whole)


@pytest.mark.parametrize("batched", [False, True])
def test_loading_does_not_grow_from_answer_to_answer(answerer, make_picture, monkeypatch, batched):
    prompts = [answerer.prompter.prepare([make_picture(4321 + number)], "What?") for number in range(2)]
    vision, opened = type(answerer.vision), iter([0.2, 0.0, 0.0])
    clock = [100.0]

    def prepare(self, num_images):
        clock[0] += next(opened)  # the first one opens a graph, the others find it open

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(vision, "prepare", prepare)
    monkeypatch.setattr(answerer, "load_ms", 1000.0)
    load_ms = []
    for _ in range(3):
        if batched:
            load_ms += [answer.timings.load_ms for answer in answerer.generate_batch(prompts, max_new_tokens=1)[:1]]
        else:
            load_ms.append(answerer.generate(prompts[0], max_new_tokens=1).timings.load_ms)
    assert load_ms == [pytest.approx(1200), pytest.approx(1000), pytest.approx(1000)]
    assert answerer.load_ms == 1000


def test_hashing_a_picture_is_part_of_its_preparation(answerer, make_picture, monkeypatch):
    from laco_engines.prompts import visuals

    clock, real = [100.0], visuals.hashlib.blake2b

    def slow(*args, **kwargs):
        clock[0] += 0.125
        return real(*args, **kwargs)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(visuals.hashlib, "blake2b", slow)
    prompt = answerer.prompter.prepare([make_picture(888)], "What?")
    assert prompt.preprocess_ms == pytest.approx(125)
    assert answerer.generate(prompt, max_new_tokens=1).timings.first_token_ms == pytest.approx(125)


def test_real_timings_are_positive(answerer, make_picture):
    answer = answerer.answer([make_picture(0)], "What?", max_new_tokens=1)
    timings = answer.timings
    assert min(timings.load_ms, timings.preprocess_ms, timings.encode_ms, timings.prefill_ms) > 0
    assert timings.decode_tokens_per_s is None  # there is no token after the first
    assert answer.finish == "length"


def test_scores_give_the_two_best_tokens(answering_model, answerer, make_picture):
    model, processor = answering_model
    picture = make_picture(3)
    answer = answerer.answer([picture], "What?", max_new_tokens=6, output_scores=True)
    assert [step.token for step in answer.scores] == answer.token_ids
    text = render([question_turn("What?", 1)], add_generation_prompt=True)
    with torch.inference_mode():
        logits = model(**processor(images=[picture], text=text, return_tensors="pt")).logits[0, -1]
    values, tokens = logits.topk(2)
    first = answer.scores[0]
    assert [first.token, first.runner_up] == tokens.tolist()
    assert first.margin == pytest.approx(float(values[0] - values[1]), abs=1e-4)
    assert answerer.answer([picture], "What?", max_new_tokens=1).scores is None


def test_the_end_token_ends_the_answer(answering_model, bundle, answerer, make_picture):
    picture = make_picture(3)
    first, second, third = answerer.answer([picture], "What?", max_new_tokens=3).token_ids
    decoder = bundle.manifest.decoder
    assert third not in (first, second)
    ends = list(decoder.eos_token_ids)
    decoder.eos_token_ids[:] = [third]
    try:
        answer = answerer.answer([picture], "What?", max_new_tokens=9)
    finally:
        decoder.eos_token_ids[:] = ends
    assert answer.token_ids == [first, second, third]
    assert answer.finish == "stop"


@pytest.mark.usefixtures("needs_optimum")
def test_greedy_whatever_the_generation_config_says(answerer, make_picture, monkeypatch):
    expected = answerer.answer([make_picture(3)], "What?", max_new_tokens=12).token_ids
    monkeypatch.setattr(answerer.decoder.generation_config, "do_sample", True)
    monkeypatch.setattr(answerer.decoder.generation_config, "temperature", 3.0)
    assert answerer.answer([make_picture(3)], "What?", max_new_tokens=12).token_ids == expected


@pytest.mark.usefixtures("needs_optimum")
def test_a_repetition_penalty_counts_the_prompt_too(answering_model, answerer, make_picture, monkeypatch):
    plain = answerer.answer([make_picture(3)], "What?", max_new_tokens=12).token_ids
    for generation_config in (answering_model[0].generation_config, answerer.decoder.generation_config):
        monkeypatch.setattr(generation_config, "repetition_penalty", 3.0)
    expected, _ = pytorch_tokens(answering_model, [make_picture(3)], "What?", 12)
    assert expected != plain
    assert answerer.answer([make_picture(3)], "What?", max_new_tokens=12).token_ids == expected


def test_the_answer_stops_where_the_context_ends(answerer):
    context = answerer.bundle.manifest.decoder.context_length
    overhead = answerer.answer([], "x", max_new_tokens=1).prompt_tokens - 1
    answer = answerer.answer([], "x" * (context - overhead - 3), max_new_tokens=50)
    assert len(answer.token_ids) <= 3


def test_too_long_a_prompt_is_refused(answerer):
    with pytest.raises(UsageError, match="longer than the model's context"):
        answerer.prompter.prepare([], "x" * 600)


def test_bundle_without_a_language_model_cannot_answer(rewritten):
    with pytest.raises(BundleError, match="no language model"):
        Answerer(open_bundle(rewritten(decoder=None)))


@pytest.fixture(scope="module")
def tiled_answerer(tiled_model, tmp_path_factory):
    """Of a bundle whose model tiles single pictures."""
    folder = tmp_path_factory.mktemp("tiled")
    checkpoint.save(*tiled_model, folder / "tiny")
    options = ExportOptions(folder / "tiny", precision="fp32", output=folder / "bundle", compile=False)
    return Answerer(open_bundle(export_bundle(options).output))


@pytest.mark.parametrize(
    "sizes", [[(200, 60)], [(50, 170)], [(300, 290)], [(56, 56)], [(7, 400)], [(200, 60), (50, 90)]]
)
def test_a_model_that_tiles_pictures_answers_as_pytorch(tiled_answerer, tiled_model, sizes):
    model, processor = tiled_model
    generator = np.random.default_rng(sum(map(sum, sizes)))
    pictures = [Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    prompt = render([question_turn("what is it?", len(pictures))], add_generation_prompt=True)
    inputs = processor(images=pictures, text=prompt, return_tensors="pt")
    with torch.no_grad():
        expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    actual = tiled_answerer.answer(pictures, "what is it?", max_new_tokens=12)
    assert actual.prompt_tokens == inputs["input_ids"].shape[1]
    assert actual.token_ids == expected.tolist()[: len(actual.token_ids)]
    assert len(actual.token_ids) >= len(expected) or actual.finish == "stop"
    pixel_values = tiled_answerer.prompter.prepare(pictures, "what is it?").pixel_values
    np.testing.assert_allclose(pixel_values, inputs["pixel_values"].numpy(), rtol=0, atol=0)
