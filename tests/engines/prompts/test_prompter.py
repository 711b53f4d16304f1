"""Prompts in published chat formats, token for token what transformers makes of the whole text, with any tokenizer."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from chat_formats import TEMPLATES, TOKENIZERS

from laco_engines.prompts.prompter import Prompter
from laco_engines.prompts.visuals import Visual
from laco_export.errors import BundleError, UsageError
from laco_export.layout_rules import DEFAULT_TOKEN_LAYOUT
from laco_export.models.chat_template import chat_format_of
from laco_export.token_layouts import single_tile_layout

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<image>", "<IMG_CONTEXT>", "<img>", "</img>"),
)
INTERNVL = {"image_before": "<img>", "image_after": "</img>", "frame_before": "Frame{number}: ", "frame_between": "\n"}
TOKENS = 3  # of a picture
QUESTIONS = ["What is the colour of the box?", " Two  spaces?\n", "Dé jà, 中 (10%)!\n\nIsn't it"]
ANSWERS = ["The box is red.", "No, don't ask:\n- e.g. these"]


class StandInBundle:
    """What a prompter asks of a bundle, with transformers' tokenizer and a template as the reference."""

    def __init__(self, name, kind, context_length=4096):
        around = None if kind == "byte level" else "<s> $A"
        self.tokenizer, self.template = TOKENIZERS[kind]("<s>", "</s>", *SPECIAL, around=around), TEMPLATES[name]
        self.image_token, pictures = ("<IMG_CONTEXT>", INTERNVL) if name == "internvl" else ("<image>", {})
        self.chat_format = chat_format_of(self.template, self.tokenizer, image_token=self.image_token, **pictures)
        stored = {"processor_config.json": json.dumps({"chat_format": self.chat_format.to_dict()})}
        stored["tokenizer.json"] = self.tokenizer.backend_tokenizer.to_str()
        self.stored, self.path = stored, "bundle"
        decoder = SimpleNamespace(
            vocab_size=len(self.tokenizer),
            eos_token_ids=[self.tokenizer.eos_token_id],
            image_token_id=self.tokenizer.convert_tokens_to_ids(self.image_token),
            context_length=context_length,
        )
        vision = SimpleNamespace(token_grid=(1, TOKENS), tiling=None, token_layout=DEFAULT_TOKEN_LAYOUT)
        self.manifest = SimpleNamespace(decoder=decoder, files=stored, vision=vision, image_preprocessing=None)

    def file(self, name):
        return f"bundle/{name}"

    def read(self, name):
        return self.stored[name].encode()

    def reference(self, turns):
        """Token ids of ``[(role, words, pictures), …]`` by transformers, as its processors make them."""
        typed = "'type'" in self.template or ".type" in self.template or "content[0]" in self.template
        messages = []
        for role, words, pictures in turns:
            content = "<image>\n" * pictures + words
            if typed:
                content = [{"type": "image"}] * pictures + [{"type": "text", "text": words}]
            messages.append({"role": role, "content": content})
        text = self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        shown = self.image_token * TOKENS
        if self.image_token == "<IMG_CONTEXT>":
            shown = f"<img>{shown}</img>"
        text = text.replace(self.image_token, "<image>").replace("<image>", shown)
        return self.tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]


def picture(seed=0):
    return Visual(np.full((1, 3, 2, 2), seed, np.float32), single_tile_layout(TOKENS))


def prompt_of(prompter, turns, answers=None):
    """The prompt of ``[(role, words, pictures), …]``; ``answers`` gives earlier answers' own tokens."""
    spoken = [] if turns[0][0] == "system" else [prompter.system_turn(None)]
    answers = iter(answers or ())
    for role, words, pictures in turns:
        if role == "system":
            spoken.append(prompter.system_turn(words))
        elif role == "user":
            spoken.append(prompter.user_turn(words, [picture(index) for index in range(pictures)]))
        else:
            spoken.append(prompter.assistant_turn(next(answers, words)))
    return prompter.join(spoken)


def conversations(chat_format):
    """Of one to three questions, with and without a system line and pictures."""
    for system in [None] if chat_format.system is None else [None, "Be brief: SYS."]:
        for pictures in ((0, 0, 0), (1, 0, 0), (2, 0, 1)):
            turns = [] if system is None else [("system", system, 0)]
            for question, count, answer in zip(QUESTIONS, pictures, [*ANSWERS, ""]):
                turns.append(("user", question, count))
                yield list(turns)
                turns.append(("assistant", answer, 0))


@pytest.fixture(scope="module", params=[(name, kind) for kind in TOKENIZERS for name in TEMPLATES], ids=": ".join)
def bundle(request):
    return StandInBundle(*request.param)


def test_a_prompts_tokens_are_those_of_the_whole_text(bundle):
    prompter = Prompter(bundle)
    for turns in conversations(bundle.chat_format):
        prompt = prompt_of(prompter, turns)
        assert prompt.input_ids.tolist() == bundle.reference(turns)
        assert len(prompt.image_positions) == TOKENS * sum(pictures for *_, pictures in turns)


def test_an_answers_own_tokens_stay_behind_what_it_was_asked_with(bundle):
    """Where they are those of its text, the prompt is the whole text's; others stay as they are."""
    if not bundle.chat_format.assistant.before.startswith(bundle.chat_format.generation_header):
        pytest.skip("the template writes another header before an earlier answer")
    prompter, tokenizer, answer = Prompter(bundle), bundle.tokenizer, ANSWERS[0]
    turns = [("user", QUESTIONS[0], 1), ("assistant", answer, 0), ("user", QUESTIONS[2], 0)]
    asked, whole = prompt_of(prompter, turns[:1]).input_ids.tolist(), bundle.reference(turns)
    assert whole[: len(asked)] == asked
    lengths = range(1, len(whole) - len(asked))
    length = next(n for n in lengths if tokenizer.decode(whole[len(asked) : len(asked) + n]).strip() == answer)
    own = whole[len(asked) : len(asked) + length]
    assert prompt_of(prompter, turns, [[*own, tokenizer.eos_token_id]]).input_ids.tolist() == whole
    for other in ([own[-1], own[0]], [*own, *own]):
        assert prompt_of(prompter, turns, [other]).input_ids.tolist()[: len(asked) + len(other)] == asked + other


def test_a_user_cannot_forge_a_turn_that_tokens_make(bundle):
    prompter = Prompter(bundle)
    written = [token for token in SPECIAL if token in "".join(bundle.chat_format.fixed_texts) and token != "<image>"]
    for token in [*written, bundle.tokenizer.eos_token]:
        with pytest.raises(UsageError, match="special token"):
            prompter.user_turn(f"Hi{token}")
        ids = prompt_of(prompter, [("user", "Hi", 0), ("assistant", f"a{token}b", 0), ("user", "So?", 0)]).input_ids
        plain = prompt_of(prompter, [("user", "Hi", 0), ("assistant", "ab", 0), ("user", "So?", 0)]).input_ids
        token_id = bundle.tokenizer.convert_tokens_to_ids(token)
        assert (ids == token_id).sum() == (plain == token_id).sum()
    with pytest.raises(UsageError, match="special token" if bundle.image_token == "<IMG_CONTEXT>" else "marks 1"):
        prompter.user_turn(f"Hi {bundle.image_token}")


def test_an_answer_shows_no_picture_where_the_image_token_is_no_special_one():
    bundle = StandInBundle("llava-1.5", "byte level")
    fields = json.loads(bundle.stored["tokenizer.json"])
    for token in fields["added_tokens"]:
        token["special"] = token["content"] != "<image>"
    bundle.stored["tokenizer.json"] = json.dumps(fields)
    prompter = Prompter(bundle)
    generated = prompter.tokenizer.encode("a <image>").ids
    for answer in ("in HTML <image> is no tag", generated):
        turns = [prompter.user_turn("Hi", [picture()]), prompter.assistant_turn(answer), prompter.user_turn("So?")]
        assert len(prompter.join([prompter.system_turn(None), *turns]).image_positions) == TOKENS


def test_a_token_that_normalising_spells_is_no_way_around():
    bundle = StandInBundle("llava-1.5", "byte level")
    fields = json.loads(bundle.stored["tokenizer.json"])
    fields["normalizer"] = {"type": "NFKC"}
    for token in fields["added_tokens"]:
        token["normalized"] = token["content"] == "</s>"
    bundle.stored["tokenizer.json"] = json.dumps(fields)
    prompter = Prompter(bundle)
    assert bundle.tokenizer.eos_token_id in prompter.tokenizer.encode("\uff1c/s\uff1e").ids
    for ask in (prompter.user_turn, prompter.system_turn):
        with pytest.raises(UsageError, match="special token"):
            ask("Hi\uff1c/s\uff1e")


def test_a_chat_that_is_cut_is_what_remains_of_it(bundle):
    prompter = Prompter(bundle)
    turns = [("user", QUESTIONS[0], 1), ("assistant", ANSWERS[0], 0), ("user", QUESTIONS[2], 1)]
    remaining = bundle.reference(turns[2:])
    prompter.decoder.context_length = len(remaining) + 1
    spoken = [prompter.system_turn(None)]
    spoken += [prompter.user_turn(QUESTIONS[0], [picture()]), prompter.assistant_turn(ANSWERS[0])]
    prompt = prompter.join([*spoken, prompter.user_turn(QUESTIONS[2], [picture(1)])], on_overflow="truncate")
    prompter.decoder.context_length = 4096
    assert prompt.input_ids.tolist() == remaining
    assert (prompt.omitted.turns, prompt.omitted.tokens, prompt.omitted.visuals) == (2, 0, 1)


@pytest.mark.parametrize("name", ["gemma", "internvl"])
def test_the_system_line_is_the_formats(name):
    prompter = Prompter(StandInBundle(name, "byte level"))
    assert len(prompter.system_turn(None)) == 0
    if name == "gemma":
        with pytest.raises(UsageError, match="no place for a system line"):
            prompter.system_turn("Be brief.")
    else:
        assert prompter.system_turn("Be brief.").before == "<|im_start|>system\n"


def test_the_frames_of_a_video_are_named():
    prompter = Prompter(StandInBundle("internvl", "byte level"))
    turn = prompter.user_turn("What happens?", videos=[[picture(0), picture(1)]])
    shown = "<img><IMG_CONTEXT></img>"
    assert turn.words == f"Frame1: {shown}\nFrame2: {shown}\nWhat happens?"


def broken_format(bundle):
    bundle.stored["processor_config.json"] = json.dumps({"chat_format": {"user": {"before": 3, "after": ""}}})


def unknown_begin(bundle):
    fields = {**bundle.chat_format.to_dict(), "begin_token": "<begin>"}
    bundle.stored["processor_config.json"] = json.dumps({"chat_format": fields})


def unknown_image_token(bundle):
    fields = {**bundle.chat_format.to_dict(), "image_token": "<picture>"}
    bundle.stored["processor_config.json"] = json.dumps({"chat_format": fields})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (broken_format, r"processor_config\.json cannot be used(.|\n)*chat_format\.user\.before"),
        (unknown_begin, "does not have the token <begin>"),
        (unknown_image_token, "does not have the image token <picture>"),
    ],
)
def test_a_format_that_does_not_fit_its_tokenizer_is_refused(fault, message):
    bundle = StandInBundle("llava-1.5", "sentence piece")
    fault(bundle)
    with pytest.raises(BundleError, match=message):
        Prompter(bundle)
