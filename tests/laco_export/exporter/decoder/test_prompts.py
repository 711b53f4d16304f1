"""The prompts: answers are judged and nothing else, pictures' features stand at their tokens, bad texts are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from laco_export.errors import UsageError
from laco_export.exporter.decoder import prompts_of
from laco_export.exporter.decoder.prompts import TEXT_WINDOW, user_windows

IMAGE = 500


class Bytes:
    """A tokenizer of bytes and the image token."""

    def __call__(self, text, add_special_tokens=True):
        ids = list(text.encode().replace(b"<|image_pad|>", b"\xff"))
        return SimpleNamespace(input_ids=[IMAGE if number == 255 else number for number in ids])

    def decode(self, ids):
        return bytes(int(number) for number in ids).decode(errors="replace")


def test_answers_are_judged_and_features_stand_at_their_tokens():
    features = np.full((3, 4), 7, np.float32)
    prompts = prompts_of(SimpleNamespace(tokenizer=Bytes()), [features], IMAGE, [])
    picture = next(prompt for prompt in prompts.judged if prompt.features is not None)
    judged = Bytes().decode(picture.ids[1:][picture.counted[:-1]])
    assert judged.startswith("The kitchen is small") and judged.endswith("<|im_end|>")
    assert (picture.ids == IMAGE).sum() == 3
    embeds = picture.embeds(torch.zeros(IMAGE + 1, 4))
    assert (embeds == 7).all(1).tolist() == (picture.ids == IMAGE).tolist()
    assert {len(prompt.ids) for prompt in prompts.rounding} == {TEXT_WINDOW}


@pytest.mark.parametrize("context_length", [240, 40])
def test_no_prompt_is_longer_than_the_context(context_length):
    """A rotary table ends there. A prompt that is cut off before its answer is left out."""
    features = np.full((60, 4), 7, np.float32)
    processor = SimpleNamespace(tokenizer=Bytes())
    whole = prompts_of(processor, [features], IMAGE, [])
    prompts = prompts_of(processor, [features], IMAGE, [], context_length=context_length)
    assert max(len(prompt.ids) for prompt in whole.judged) > 240
    for prompt in (*prompts.judged, *prompts.rounding):
        assert len(prompt.ids) == context_length
        assert prompt.counted.any() and not prompt.counted[-1]
        prompt.embeds(torch.zeros(IMAGE + 1, 4))
    assert bool([p for p in prompts.judged if p.features is not None]) == (context_length == 240)
    cut = next(prompt for prompt in whole.judged if prompt.features is not None).within(100)
    assert (cut.ids == IMAGE).sum() == len(cut.features) < 60
    assert (cut.embeds(torch.zeros(IMAGE + 1, 4)) == 7).all(1).sum() == len(cut.features)


def test_what_is_judged_is_never_what_was_rounded_over(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"{number} is a number. " for number in range(2000)))
    prompts = prompts_of(SimpleNamespace(tokenizer=Bytes()), [], IMAGE, [path])
    rounded, judged = ({tuple(prompt.ids) for prompt in some} for some in (prompts.rounding, prompts.judged))
    assert rounded and not rounded & judged
    assert len(rounded) + len(judged) <= 32 + 2
    assert prompts.texts == "mine.txt"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b" \n\n ", "empty"),
        (b"too short", "too short"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (None, "No such"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(tmp_path, content, match):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=match) as caught:
        user_windows(lambda text: list(text.encode()), [path])
    assert caught.value.allowed


@pytest.mark.real
def test_a_real_models_first_position_holds_a_hundred_times_the_others_activations(smollm2):
    """Why prompts are real: random weights have no such position, and a norm over all of them would be its norm."""
    model, prompts = smollm2
    chat = next(prompt for _, prompt in prompts.greedy)
    with torch.inference_mode():
        states = model.model(torch.from_numpy(chat.ids[None]), output_hidden_states=True).hidden_states
    norms = states[len(states) // 2][0].norm(dim=-1)  # [T], after the layers' first half
    assert norms[0] > 100 * norms[1:].max()
