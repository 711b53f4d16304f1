"""A language model's folder is read, its vocabulary made ready, its weights grown; both real ones answer."""

import json

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from laco_export.conversation import DEFAULT_SYSTEM, render
from laco_export.errors import CheckpointError
from laco_export.models.language_models import load_language_model, read_language_config, read_vocabulary

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture
def folder(tmp_path):
    """A Llama model of 259 rows with a byte-level tokenizer of as many tokens, without image and padding tokens."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=259, bos_token_id=256, eos_token_id=258, **sizes))
    model.generation_config.eos_token_id = [258, 256]
    model.save_pretrained(tmp_path)
    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_start|>").save_pretrained(tmp_path)
    return tmp_path


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_folder_is_read(folder):
    model, vocabulary = load_language_model(folder, None)
    assert (vocabulary.rows, vocabulary.new_ids, vocabulary.end_ids) == (261, (259, 260), (258, 256))
    assert model.config.vocab_size == model.get_output_embeddings().out_features == 261
    assert model.generation_config.eos_token_id == [258, 256]
    assert not model.training
    said = " | ".join(vocabulary.changes)
    assert "2 rows are added" in said
    assert "the end token is <|im_end|>; its tokenizer names <|im_start|>" in said
    assert "the padding token is <|endoftext|>; its tokenizer names none" in said


def test_the_files_are_left_alone(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    load_language_model(folder, None)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_padding_token_beyond_the_rows(folder):
    """transformers cannot build this model: padding_idx must be within num_embeddings."""
    edit(folder / "config.json", pad_token_id=259)
    model, vocabulary = load_language_model(folder, None)
    assert model.config.pad_token_id == vocabulary.tokenizer.pad_token_id == 256


def test_the_plan_reads_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert read_vocabulary(folder, read_language_config(folder)).rows == 261


def test_quantised_weights_are_refused_with_what_to_do(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    with pytest.raises(CheckpointError, match="holds quantised weights") as caught:
        load_language_model(folder, None)
    assert "awq" in caught.value.given
    assert "dequantize" in caught.value.todo


def test_a_tokenizer_that_cannot_be_read(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"the tokenizer of .* cannot be loaded"):
        load_language_model(folder, None)


@pytest.mark.parametrize("beside", [["config.json", "tokenizer.json"], []])
def test_a_gguf_file_alone_is_not_read(folder, tmp_path_factory, beside):
    """Of whatever family; with and without the files that publishers put beside it."""
    other = tmp_path_factory.mktemp("gguf")
    (other / "model-q4_k_m.gguf").write_bytes(b"GGUF")
    for name in beside:
        (other / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(CheckpointError) as refusal:
        load_language_model(other, None)
    assert "a GGUF file is not read" in refusal.value.todo


def test_another_models_tokenizer_is_refused_before_the_weights_are_read(folder):
    edit(folder / "config.json", vocab_size=152_000)
    with pytest.raises(CheckpointError, match="259 tokens, vocab_size 152000"):
        load_language_model(folder, None)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "image", "pad", "ends"),
    [
        ("smollm2", 49154, 49152, 2, (2,)),
        ("qwen2.5-coder", 151936, 151655, 151643, (151645, 151643)),
    ],
)
def test_the_real_vocabularies(real_part, name, rows, image, pad, ends):
    folder = real_part(name)
    vocabulary = read_vocabulary(folder, read_language_config(folder))
    tokenizer = vocabulary.tokenizer
    assert (vocabulary.rows, tokenizer.convert_tokens_to_ids("<|image_pad|>")) == (rows, image)
    assert (tokenizer.pad_token_id, vocabulary.end_ids) == (pad, ends)
    assert any("its family's is 'You are" in change for change in vocabulary.changes)


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder"])
def test_the_real_tokenizers_are_mended(real_part, name, tmp_path):
    """As transformers leaves them of the GGUF file: special tokens are ordinary text, and none pads."""
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained(real_part(name))
    stored = json.loads((real_part(name) / "tokenizer.json").read_text())
    stored["model"]["vocab"] |= {token["content"]: token["id"] for token in stored["added_tokens"]}
    stored["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (tmp_path / "config.json").write_bytes((real_part(name) / "config.json").read_bytes())
    prompt = render([("user", "What is the capital of France?")], add_generation_prompt=True)
    assert len(AutoTokenizer.from_pretrained(tmp_path)(prompt)["input_ids"]) > len(whole(prompt)["input_ids"])
    mended = read_vocabulary(tmp_path, read_language_config(tmp_path)).tokenizer
    assert mended(prompt)["input_ids"] == whole(prompt)["input_ids"]
    assert (
        mended.decode(mended(prompt)["input_ids"], skip_special_tokens=True)
        == "".join(
            f"{role}\n{text}\n"
            for role, text in [("system", DEFAULT_SYSTEM), ("user", "What is the capital of France?")]
        )
        + "assistant\n"
    )
    assert mended.pad_token_id == whole.pad_token_id and mended.eos_token == "<|im_end|>"


@pytest.mark.real
@pytest.mark.parametrize("swapped", [("smollm2", "qwen2.5-coder"), ("qwen2.5-coder", "smollm2")])
def test_the_real_tokenizers_are_not_each_others(real_part, swapped):
    weights, words = map(real_part, swapped)
    with pytest.raises(CheckpointError, match="the tokenizer may be another model's"):
        read_vocabulary(words, AutoConfig.from_pretrained(weights))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder"])
def test_a_real_model_that_grew_answers_as_before(real_part, name):
    """With LaCo's system line in place of the family's own."""
    model, vocabulary = load_language_model(real_part(name), torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = vocabulary.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
    assert "Paris" in vocabulary.tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True)
    assert answer[0, -1] == vocabulary.end_ids[0]  # it stops by itself
