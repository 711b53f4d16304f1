"""Checkpoints with published chat formats, exported and asked: prompts and answers are those of transformers."""

import json
from types import SimpleNamespace

import pytest
import torch
from chat_formats import TEMPLATES, TOKENIZERS

from laco_engines.answering import Answerer
from laco_engines.chat import Chat
from laco_engines.generation.options import GenerationOptions
from laco_engines.serving.chat_request import parse_chat_request
from laco_engines.serving.errors import ApiError
from laco_engines.serving.prompting import build_prompt
from laco_engines.serving.settings import ServeSettings
from laco_engines.trial import try_bundle
from laco_export.bundle import open_bundle
from laco_export.models.chat_template import chat_format_of

from ...conftest import tiny_encoder
from ...engines.fixtures import picture

FORMATS = {
    # name: kind of tokenizer, encoder, special tokens, what the tokenizer puts around, around a picture
    "llava-1.5": ("older sentence piece", "clip", ("<image>", "<pad>"), "<s> $A", {}),
    "internvl": (
        "byte level",
        "internvit",
        ("<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "</img>"),
        None,
        {"image_before": "<img>", "image_after": "</img>", "frame_before": "Frame{number}: ", "frame_between": "\n"},
    ),
}
TOKENS = 16  # of a picture
TURNS = [("user", "What is in the picture?", 1), ("assistant", "a red box", 0), ("user", "Isn't it blue: so?", 0)]


def language_model(tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        initializer_range=0.2,  # ten times the usual, so that pictures sway the answers
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 7]  # several, as published models have
    return model


@pytest.fixture(scope="module", params=FORMATS)
def published(request, tmp_path_factory):
    """A checkpoint in a published format and its bundle."""
    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint

    kind, encoder, special, around, pictures = FORMATS[request.param]
    tokenizer, template = TOKENIZERS[kind]("<s>", "</s>", *special, around=around), TEMPLATES[request.param]
    image_token = "<IMG_CONTEXT>" if request.param == "internvl" else "<image>"
    torch.manual_seed(0)
    model = LacoForConditionalGeneration.from_parts(
        tiny_encoder(encoder),
        language_model(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids(image_token),
        method=None,
    )
    for layer in (model.projector.linear_1, model.projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=0.5)
    chat_format = chat_format_of(template, tokenizer, image_token=image_token, **pictures)
    processor = LacoProcessor.for_model(model.eval(), tokenizer, chat_format=chat_format, chat_template=template)
    folder = tmp_path_factory.mktemp("published")
    checkpoint.save(model, processor, folder / "checkpoint")
    options = ExportOptions(folder / "checkpoint", precision="fp32", output=folder / "bundle", compile=False)
    bundle = open_bundle(pipeline.export_bundle(options).output)
    loaded = checkpoint.load(folder / "checkpoint")
    return SimpleNamespace(
        name=request.param,
        template=template,
        image_token=image_token,
        model=loaded.model,
        processor=loaded.processor,
        chat_format=chat_format,
        bundle=bundle,
        answerer=Answerer(bundle, threads=1),
    )


def messages_of(turns):
    return [
        {"role": role, "content": [{"type": "image"}] * pictures + [{"type": "text", "text": words}]}
        for role, words, pictures in turns
    ]


def ids_by_transformers(published, turns):
    """The prompt by the folder's template and transformers' tokenizer, at once."""
    tokenizer = published.processor.tokenizer
    text = tokenizer.apply_chat_template(
        messages_of(turns), chat_template=published.template, tokenize=False, add_generation_prompt=True
    )
    around = ("<img>", "</img>") if published.name == "internvl" else ("", "")
    text = text.replace(published.image_token, around[0] + published.image_token * TOKENS + around[1])
    return tokenizer(text)["input_ids"]  # its first token as it puts it, as transformers' processors do


def answer_by_pytorch(published, ids, pictures, count=8):
    pixels = published.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    given, mask = torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)
    with torch.inference_mode():
        output = published.model.generate(
            input_ids=given, attention_mask=mask, pixel_values=pixels, do_sample=False, max_new_tokens=count
        )
    return output[0, len(ids) :].tolist()


def test_the_format_comes_along(published):
    stored = json.loads(published.bundle.read("processor_config.json"))["chat_format"]
    assert stored == json.loads(json.dumps(published.chat_format.to_dict()))
    assert published.processor.chat_format == published.answerer.prompter.chat_format == published.chat_format
    assert published.processor.chat_template == published.template
    assert published.bundle.read("chat_template.jinja").decode() == published.template
    end = published.processor.tokenizer.convert_tokens_to_ids(published.chat_format.answer_end)
    assert set(published.bundle.manifest.decoder.eos_token_ids) == {published.processor.tokenizer.eos_token_id, 7, end}
    (check,) = [w for w in published.bundle.manifest.accuracy["witnesses"] if w["watched"] == "token ids"]
    assert check["by"].endswith("as its chat template writes it")


def test_a_finished_bundle_asks_as_its_checkpoint_does(published):
    """The golden prompts are the processor's, and the engines' own are compared with them."""
    tried = try_bundle(published.bundle.path, threads=1)
    assert tried["not_asked"] is None and all(part["passed"] for part in tried["parts"])


def test_an_answer_is_transformers(published):
    for pictures in ([picture(1)], [picture(2), picture(1)]):
        prompt = published.answerer.prompter.prepare(pictures, "What is it?")
        ids = ids_by_transformers(published, [("user", "What is it?", len(pictures))])
        assert prompt.input_ids.tolist() == ids
        answer = published.answerer.generate(prompt, max_new_tokens=8)
        assert answer.token_ids == answer_by_pytorch(published, ids, pictures)


def test_transformers_own_way_to_a_prompt_is_the_same(published):
    turns = [("user", "What is it?", 1)]
    (message,) = messages_of(turns)
    chat = [{**message, "content": [{"type": "image", "image": picture(1)}, message["content"][1]]}]
    inputs = published.processor.apply_chat_template(
        chat, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
    )
    assert inputs["input_ids"][0].tolist() == ids_by_transformers(published, turns)


def test_a_chat_is_the_whole_conversation(published):
    chat = Chat(published.answerer, options=GenerationOptions(max_new_tokens=6))
    first = chat.ask(TURNS[0][1], [picture(3)])
    spoken = [token for token in first.token_ids if token not in published.answerer.prompter.special_ids]
    second = chat.ask(TURNS[2][1])
    asked = ids_by_transformers(published, TURNS[:1])
    assert second.cached_tokens >= len(asked) + len(spoken) - 1  # nothing of the first turn is computed again
    text = chat.exchanges[0].text.removeprefix(published.chat_format.answer_start)
    whole = ids_by_transformers(published, [TURNS[0], ("assistant", text, 0), TURNS[2]])
    prompt = published.answerer.prompter.join([chat._system, *spoken_turns(chat)[:2], chat.exchanges[1].question])
    assert prompt.input_ids.tolist()[: len(asked)] == whole[: len(asked)] == asked
    assert second.token_ids == answer_by_pytorch(published, prompt.input_ids.tolist(), [picture(3)], count=6)


def spoken_turns(chat):
    return [turn for exchange in chat.exchanges for turn in (exchange.question, exchange.answer)]


def request_of(*messages):
    return parse_chat_request(json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]}).encode())


def test_the_servers_prompts_follow_the_format(published):
    prompter = published.answerer.prompter
    said = [("system", "Be brief."), ("user", "Hi"), ("assistant", "a red box"), ("user", "So: what?")]
    prompt = build_prompt(request_of(*said), prompter, ServeSettings())
    assert prompt.input_ids.tolist() == ids_by_transformers(published, [(*turn, 0) for turn in said])
    for token in (published.processor.tokenizer.eos_token, published.chat_format.answer_end):
        with pytest.raises(ApiError, match="special token"):
            build_prompt(request_of(("user", f"Hi{token}")), prompter, ServeSettings())
