"""A language model of Llama 3's turns and a date, from its folder to an answer of its bundle."""

import json

import pytest
import torch
import yaml
from chat_formats import LLAMA_3_2, LLAMA_3_TOKENS, byte_level
from PIL import Image
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from laco_engines.answering import Answerer
from laco_engines.generation.options import GenerationOptions
from laco_export.bundle import open_bundle
from laco_export.exporter import pipeline
from laco_export.exporter.options import ExportOptions
from laco_export.models import checkpoint
from laco_training import cli, init_command

from ...conftest import tiny_encoder
from ...training.conftest import write_stage_data

TALK = [("system", "Be brief."), ("user", "What is it?"), ("assistant", "a red box"), ("user", " Isn't it blue: so? ")]
TOKENS = 4  # of a picture
IMAGE = "<|image_pad|>"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of an encoder and of a language model like Llama 3.2: a row for each token, no padding, several ends."""
    folder = tmp_path_factory.mktemp("parts")
    tiny_encoder().save_pretrained(folder / "encoder")
    tokenizer = byte_level("<|begin_of_text|>", "<|end_of_text|>", *LLAMA_3_TOKENS, around="<|begin_of_text|> $A")
    tokenizer.save_pretrained(folder / "llm")
    stated = folder / "llm" / "tokenizer_config.json"
    values = {**json.loads(stated.read_text()), "chat_template": LLAMA_3_2}
    del values["pad_token"]
    stated.write_text(json.dumps(values))
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        initializer_range=0.2,  # ten times the usual, so that pictures sway the answers
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")]
    model.save_pretrained(folder / "llm")
    return folder


@pytest.fixture(scope="module")
def made(parts):
    options = ["--encoder", str(parts / "encoder"), "--llm", str(parts / "llm"), "--match-text-rms", "--debug"]
    assert init_command.main([*options, "--output", str(parts / "ckpt")]) == 0
    return checkpoint.load(parts / "ckpt")


def text_by_transformers(tokenizer, turns):
    """By the published template, on the date that it documents."""
    messages = [{"role": role, "content": words} for role, words in turns]
    return tokenizer.apply_chat_template(
        messages, chat_template=LLAMA_3_2, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024"
    )


def asked_of(processor, question, picture):
    """The processor's inputs of one question about one picture, by transformers' own way."""
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
        return_tensors="pt",
    )


def test_its_vocabulary_grows_by_the_image_token(parts, made):
    """The folder's own rows and ids stay; a new row is their mean."""
    theirs = LlamaForCausalLM.from_pretrained(parts / "llm")
    rows, embedding = theirs.config.vocab_size, made.model.get_input_embeddings().weight
    assert made.model.config.image_token_id == rows and len(embedding) == rows + 1
    assert torch.equal(embedding[:rows], theirs.get_input_embeddings().weight)
    assert torch.allclose(embedding[rows], theirs.get_input_embeddings().weight.mean(0))
    end = made.processor.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert made.model.generation_config.eos_token_id[0] == end
    assert made.processor.chat_format.answer_end == "<|eot_id|>"


def test_its_prompts_are_transformers_own(parts, made):
    theirs = AutoTokenizer.from_pretrained(parts / "llm")
    for spoken in (TALK[1:2], TALK[1:], TALK):
        text = text_by_transformers(theirs, spoken)
        messages = [{"role": role, "content": words} for role, words in spoken]
        ours = made.processor.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        assert ours[0] == theirs(text, add_special_tokens=False)["input_ids"]
    text = text_by_transformers(theirs, [("user", f"{TOKENS * IMAGE}\nWhat is it?")])
    shown = asked_of(made.processor, "What is it?", Image.new("RGB", (40, 40), "red"))
    assert shown["input_ids"][0].tolist() == made.processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_what_was_decided_is_said(parts, tmp_path, capsys):
    options = ["--encoder", str(parts / "encoder"), "--llm", str(parts / "llm"), "--output", str(tmp_path / "ckpt")]
    assert init_command.main(options) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"new token: {IMAGE}" in said and "the day's date" in said and "26 Jul 2024" in said


def test_a_recipe_plans_it(parts, tmp_path, capsys):
    stage = {"data": "data.json", "global_batch_size": 4, "per_device_batch_size": 2, "max_length": 500}
    stage |= {"precision": "fp32", "learning_rates": {"projector": 1e-3}}
    recipe = {
        "model": {"encoder": str(parts / "encoder"), "language_model": str(parts / "llm")},
        "compression": {"at": "1/2"},
        "data_folder": str(write_stage_data(tmp_path)),
        "stages": {"2-si": stage},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    assert cli.main(["--recipe", str(tmp_path / "own.yaml"), "--dry-run", "--debug"]) == 0
    said = capsys.readouterr()
    assert "start_header_id" in said.out + said.err and "im_start" not in said.out + said.err


def test_its_bundle_answers_as_pytorch(parts, made):
    options = ExportOptions(parts / "ckpt", precision="fp32", output=parts / "bundle", compile=False)
    answerer = Answerer(open_bundle(pipeline.export_bundle(options).output), threads=1)
    picture = Image.effect_noise((60, 60), 80).convert("RGB")
    inputs = asked_of(made.processor, "What is it?", picture)
    prompt = answerer.prompter.prepare([picture], "What is it?")
    assert prompt.input_ids.tolist() == inputs["input_ids"][0].tolist()
    answer = answerer.generate(prompt, GenerationOptions(max_new_tokens=8))
    with torch.inference_mode():
        output = made.model.generate(**inputs, do_sample=False, max_new_tokens=8)
    assert answer.token_ids == output[0, inputs["input_ids"].shape[1] :].tolist()
