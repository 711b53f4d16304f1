"""Sampling, stopping, batches and videos: what PyTorch's generate gives, or each prompt alone."""

import threading

import numpy as np
import pytest
import torch

from laco_engines.generation.options import GenerationOptions
from laco_export.conversation import question_turn, render
from laco_export.errors import UsageError

QUESTION = "What is it?"


def pytorch_tokens(answering_model, pictures, question, *, videos=None, seed=None, **options):
    model, processor = answering_model
    turn = question_turn(question, len(pictures), len(videos or []))
    inputs = processor(
        images=pictures or None,
        videos=videos,
        text=render([turn], add_generation_prompt=True),
        return_tensors="pt",
    )
    if seed is not None:
        torch.manual_seed(seed)
    with torch.inference_mode():
        output = model.generate(**inputs, **options)
    return output[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.usefixtures("needs_optimum")
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.6, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 7},
        {"temperature": 0.9, "top_k": 0, "top_p": 0.9, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_sampled_tokens_equal_pytorch_under_one_seed(answering_model, answerer, make_picture, options, seed):
    pictures = [make_picture(seed % 7), make_picture(3)]
    expected = pytorch_tokens(
        answering_model, pictures, QUESTION, seed=seed, do_sample=True, max_new_tokens=24, **options
    )
    answer = answerer.answer(pictures, QUESTION, seed=seed, max_new_tokens=24, **options)
    assert answer.token_ids == expected
    assert answer.seed == seed
    greedy = answerer.answer(pictures, QUESTION, max_new_tokens=24)
    assert greedy.seed is None
    assert greedy.token_ids != expected


def test_a_drawn_seed_repeats_its_answer(answerer, make_picture):
    answers = [answerer.answer([make_picture(3)], QUESTION, temperature=2.0, max_new_tokens=16) for _ in range(3)]
    assert len({answer.seed for answer in answers}) == 3
    assert len({tuple(answer.token_ids) for answer in answers}) == 3
    again = answerer.answer([make_picture(3)], QUESTION, temperature=2.0, seed=answers[0].seed, max_new_tokens=16)
    assert again.token_ids == answers[0].token_ids


def test_sampling_leaves_the_callers_random_numbers_alone(answerer):
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    answerer.answer([], QUESTION, temperature=1.0, seed=1, max_new_tokens=4)
    assert torch.rand(3).tolist() == expected


@pytest.mark.usefixtures("needs_optimum")
def test_the_repetition_penalty_given_wins_over_the_checkpoints(answering_model, answerer, make_picture, monkeypatch):
    monkeypatch.setattr(answerer.decoder.generation_config, "repetition_penalty", 5.0)
    expected = pytorch_tokens(
        answering_model, [make_picture(3)], QUESTION, do_sample=False, repetition_penalty=1.7, max_new_tokens=12
    )
    answer = answerer.answer([make_picture(3)], QUESTION, repetition_penalty=1.7, max_new_tokens=12)
    assert answer.token_ids == expected


def decoder_inputs(answerer, prompt):
    """What transformers' ``generate`` is called with where one calls it oneself."""
    ids = torch.from_numpy(prompt.input_ids)[None]
    embeds = answerer.decoder.embed(ids)  # [1, T, D]
    features = np.concatenate(answerer.encoder.encode(prompt.visuals))  # [n, D]
    embeds[0, torch.from_numpy(prompt.image_positions)] = torch.from_numpy(features)
    return {"input_ids": ids, "inputs_embeds": embeds}


@pytest.mark.usefixtures("needs_optimum")
def test_transformers_own_streamer_gets_the_text(answering_model, answerer, make_picture):
    from transformers import TextIteratorStreamer

    prompt = answerer.prompter.prepare([make_picture(3)], QUESTION)
    streamer = TextIteratorStreamer(answering_model[1].tokenizer, skip_prompt=True, skip_special_tokens=True)
    answerer.decoder.generate(**decoder_inputs(answerer, prompt), max_new_tokens=12, do_sample=False, streamer=streamer)
    expected = answerer.generate(prompt, max_new_tokens=12).text
    assert "".join(streamer) == expected
    assert expected


@pytest.mark.usefixtures("needs_optimum")
def test_beams_equal_pytorch(answering_model, answerer, make_picture):
    beams = {"num_beams": 3, "do_sample": False, "max_new_tokens": 12}
    prompt = answerer.prompter.prepare([make_picture(3)], QUESTION)
    tokens = answerer.decoder.generate(**decoder_inputs(answerer, prompt), **beams)[0].tolist()
    expected = pytorch_tokens(answering_model, [make_picture(3)], QUESTION, **beams)
    assert tokens[-len(expected) :] == expected
    assert expected != answerer.generate(prompt, max_new_tokens=12).token_ids


def ascii_only(monkeypatch, answerer):
    """Let the model choose among printable ASCII tokens alone."""
    tokenizer = answerer.prompter.tokenizer
    wrong = [i for i in range(tokenizer.get_vocab_size()) if not (tokenizer.decode([i]) or "\n").isprintable()]
    wrong += [i for i in range(tokenizer.get_vocab_size()) if not tokenizer.decode([i]).isascii()]
    monkeypatch.setattr(answerer.decoder.generation_config, "suppress_tokens", sorted(set(wrong)))


@pytest.mark.usefixtures("needs_optimum")
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_string_ends_the_answer_and_is_not_shown(answerer, make_picture, monkeypatch, length):
    ascii_only(monkeypatch, answerer)
    whole = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=30)
    assert len(whole.text) == 30
    stop = whole.text[12 : 12 + length]
    first = whole.text.find(stop)
    shown = []
    answer = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=30, stop=("~no~", stop), on_text=shown.append)
    assert answer.text == whole.text[:first] == "".join(shown)
    assert answer.token_ids == whole.token_ids[: first + length]
    assert (answer.finish, answer.stopped_by) == ("stop", stop)


@pytest.mark.usefixtures("needs_optimum")
def test_what_only_looks_like_a_stop_string_is_shown(answerer, make_picture, monkeypatch):
    ascii_only(monkeypatch, answerer)
    whole = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=20)
    shown = []
    almost = (whole.text[5:9] + "\n", whole.text[-3:] + "\n")  # its beginning comes, its end does not
    answer = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=20, stop=almost, on_text=shown.append)
    assert answer.text == whole.text == "".join(shown)
    assert answer.finish == "length"


@pytest.mark.usefixtures("needs_optimum")
def test_the_earliest_of_two_stop_strings_cuts(answerer, make_picture, monkeypatch):
    ascii_only(monkeypatch, answerer)
    whole = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=30).text
    answer = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=30, stop=(whole[4:9], whole[6:9]))
    assert answer.text == whole[: min(whole.find(whole[4:9]), whole.find(whole[6:9]))]


@pytest.mark.usefixtures("needs_optimum")
def test_a_stop_string_may_be_a_special_token(answerer, make_picture, monkeypatch):
    end = answerer.prompter.tokenizer.token_to_id("<|endoftext|>")
    monkeypatch.setattr(answerer.decoder.generation_config, "forced_eos_token_id", end)  # as the last token
    answer = answerer.answer([make_picture(3)], QUESTION, max_new_tokens=6, stop="<|endoftext|>")
    assert answer.token_ids[-1] == end
    assert answer.finish == "stop"
    assert answerer.answer([make_picture(3)], QUESTION, max_new_tokens=6).finish == "length"


def test_an_answer_can_be_cancelled_and_the_next_is_whole(answerer, make_picture):
    whole = answerer.answer([make_picture(5)], QUESTION, max_new_tokens=20)
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) == 3

    prompt = answerer.prompter.prepare([make_picture(5)], QUESTION)
    answer = answerer.generate(prompt, max_new_tokens=20, cancelled=cancelled)
    assert answer.token_ids == whole.token_ids[:3]
    assert answer.finish == "cancelled"
    assert answerer.generate(prompt, max_new_tokens=20).token_ids == whole.token_ids


def prompts_of_many_lengths(answerer, make_picture):
    asked = [([], "a"), ([1], "What is this?"), ([2, 3], "<image> or rather the other, <image>?"), ([4], "b" * 70)]
    return [answerer.prompter.prepare([make_picture(seed) for seed in seeds], question) for seeds, question in asked]


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 2.0}], ids=["greedy", "penalty"])
def test_a_batch_answers_as_each_alone(answerer, make_picture, options):
    prompts = prompts_of_many_lengths(answerer, make_picture)
    together = answerer.generate_batch(prompts, max_new_tokens=16, **options)
    alone = [answerer.generate(prompt, max_new_tokens=16, **options) for prompt in prompts]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.prompt_tokens for answer in together] == [len(prompt.input_ids) for prompt in prompts]
    assert len({tuple(answer.token_ids) for answer in together}) == len(prompts)


def test_each_row_of_a_batch_ends_by_itself(answerer, make_picture):
    prompts = prompts_of_many_lengths(answerer, make_picture)
    alone = [answerer.generate(prompt, max_new_tokens=16) for prompt in prompts]
    decoder = answerer.bundle.manifest.decoder
    ends = list(decoder.eos_token_ids)
    decoder.eos_token_ids[:] = [alone[1].token_ids[4]]
    shown = {}
    try:
        together = answerer.generate_batch(
            prompts, max_new_tokens=16, on_text=lambda index, text: shown.setdefault(index, []).append(text)
        )
        expected = [answerer.generate(prompt, max_new_tokens=16) for prompt in prompts]
    finally:
        decoder.eos_token_ids[:] = ends
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in expected]
    assert [answer.finish for answer in together] == [answer.finish for answer in expected]
    assert together[1].finish == "stop"
    assert len(together[1].token_ids) <= 5
    for index, answer in enumerate(together):
        assert "".join(shown[index]).replace("\ufffd", "") == answer.text.replace("\ufffd", "")


def test_a_batch_ends_where_the_context_of_its_longest_prompt_ends(answerer):
    context = answerer.bundle.manifest.decoder.context_length
    short, long = answerer.prompter.prepare([], "a"), answerer.prompter.prepare([], "b" * (context - 60))
    answers = answerer.generate_batch([short, long], max_new_tokens=context)
    room = context - answers[1].prompt_tokens
    assert 0 < room < 30
    assert [len(answer.token_ids) for answer in answers] == [room, room]
    assert answers[0].token_ids == answerer.generate(short, max_new_tokens=room).token_ids


def test_an_empty_batch_is_refused(answerer):
    with pytest.raises(UsageError, match="at least one prompt"):
        answerer.generate_batch([])


def frames(make_picture, count, size=(70, 50)):
    return [make_picture(100 + index, size=size) for index in range(count)]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_video_tokens_equal_pytorch(answering_model, answerer, make_picture, count):
    video = frames(make_picture, count)
    expected = pytorch_tokens(answering_model, [], QUESTION, videos=[video], do_sample=False, max_new_tokens=16)
    prompt = answerer.prompter.prepare([], QUESTION, videos=[video])
    assert len(prompt.visuals) == min(count, 32)
    assert answerer.generate(prompt, max_new_tokens=16).token_ids == expected


def test_pictures_and_videos_mix_in_any_order(answering_model, answerer, make_picture):
    pictures, videos = [make_picture(1), make_picture(2)], [frames(make_picture, 3), frames(make_picture, 2)]
    question = "Is <video> before <image> or <image> after <video>?"
    expected = pytorch_tokens(answering_model, pictures, question, videos=videos, do_sample=False, max_new_tokens=16)
    prompt = answerer.prompter.prepare(pictures, question, videos=videos)
    assert answerer.generate(prompt, max_new_tokens=16).token_ids == expected


def test_a_video_file_is_its_frames(answerer, make_picture, tmp_path):
    first, *rest = [picture.quantize(32).convert("RGB") for picture in frames(make_picture, 5)]
    first.save(tmp_path / "clip.webp", save_all=True, append_images=rest, lossless=True)
    for index, frame in enumerate([first, *rest]):
        (tmp_path / "clip").mkdir(exist_ok=True)
        frame.save(tmp_path / "clip" / f"frame{index}.png")
    expected = answerer.prompter.prepare([], QUESTION, videos=[[first, *rest]], max_frames=3)
    for path in (tmp_path / "clip.webp", tmp_path / "clip"):
        prompt = answerer.prompter.prepare([], QUESTION, videos=[path], max_frames=3)
        np.testing.assert_array_equal(prompt.pixel_values, expected.pixel_values)
        assert len(prompt.visuals) == 3


def test_a_picture_is_encoded_once(answerer, make_picture):
    before = answerer.encoder.encoded  # the answerer is the session's: no other test may show picture 777
    twice = answerer.prompter.prepare([make_picture(777), make_picture(777)], "Are <image> and <image> the same?")
    answerer.generate(twice, max_new_tokens=2)
    answerer.answer([make_picture(777)], "Something else?", max_new_tokens=2)
    assert answerer.encoder.encoded == before + 1


def test_several_threads_get_their_own_answers(answerer, make_picture):
    questions = [f"Question {index}" for index in range(6)]
    expected = [
        answerer.answer([make_picture(index)], q, max_new_tokens=12).token_ids for index, q in enumerate(questions)
    ]
    token_ids = [None] * len(questions)

    def ask(index):
        token_ids[index] = answerer.answer([make_picture(index)], questions[index], max_new_tokens=12).token_ids

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert token_ids == expected


def test_options_and_their_fields_exclude_each_other(answerer):
    prompt = answerer.prompter.prepare([], QUESTION)
    with pytest.raises(TypeError, match="either"):
        answerer.generate(prompt, GenerationOptions(), max_new_tokens=4)
